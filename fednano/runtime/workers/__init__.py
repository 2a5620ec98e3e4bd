"""Worker processes that train clients of the virtual runtime at the same time."""
