"""Configuration: composing it, checking it, and reporting its errors in one line."""
