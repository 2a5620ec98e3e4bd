"""Benchmarks: speeds as ratios, measured within one run."""
