"""The training step beside nanochat's own code, in one run, every contender in a process of its own."""
