"""Energy, carbon and cost of a run, and the baselines to compare them with."""
