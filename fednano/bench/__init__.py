"""Speeds, as ratios measured in one run."""
