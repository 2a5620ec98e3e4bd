"""Child processes that end with their parent, and what their memory needs."""
