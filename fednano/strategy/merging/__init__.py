"""Ways to merge the updates of a round into one pseudo-gradient."""
