"""In-context evaluation tasks: their items, their sources, and how a model is scored on them."""
