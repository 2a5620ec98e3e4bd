"""Clock, events and their log, tensors, randomness: what everything else stands on."""
