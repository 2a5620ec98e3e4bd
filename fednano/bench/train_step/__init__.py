"""The training step compared with nanochat's own code, in one run, each contender in its own process."""
