"""Fragments of the model on the server: what is merged when, and what each client holds."""
