"""From a composed configuration to the typed parts of a run; reopening a run."""
