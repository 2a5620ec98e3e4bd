"""Composing a configuration, checking it, and one-line errors about it."""
