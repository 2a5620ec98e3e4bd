"""The nodes of a deployment: when they run, and what is done to them."""
