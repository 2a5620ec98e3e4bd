"""What people see on the terminal: the live display, the summary, tables."""
