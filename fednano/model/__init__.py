"""The GPT and the sizes derived from its depth."""
