"""When clients are up, as pure seeded functions."""
