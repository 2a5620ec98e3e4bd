"""A node of a live federation: a SuperNode, a resident trainer, and a supervisor that restarts both when they die."""
