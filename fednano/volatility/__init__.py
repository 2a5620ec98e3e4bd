"""Availability and speed of clients, as pure seeded functions."""
