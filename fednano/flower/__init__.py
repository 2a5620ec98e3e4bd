"""Flower's messages, apps and grids."""
