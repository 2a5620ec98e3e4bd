"""The base of all other packages: clock, events and their log, tensors, randomness."""
