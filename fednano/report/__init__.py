"""What a run tells people: console, W&B, HTML."""
