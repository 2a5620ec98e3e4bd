"""What a run consumed: energy, carbon and cost, and the baselines beside them."""
