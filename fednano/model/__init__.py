"""The GPT and what its depth derives."""
