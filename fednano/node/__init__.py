"""A node of a live federation: a SuperNode, a resident trainer, and who starts both again when they die."""
