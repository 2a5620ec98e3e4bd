"""Worker processes that train several clients of the virtual runtime in parallel."""
