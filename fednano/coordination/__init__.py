"""Who holds which lease."""
