"""In-context tasks: what they ask, where they come from, how a model is scored on them."""
