"""Child processes that end with their parent; memory settings and temporary folders of processes."""
