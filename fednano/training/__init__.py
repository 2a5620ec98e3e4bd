"""Inner steps, evaluation and checkpoints."""
