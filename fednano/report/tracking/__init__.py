"""Loggers: what sends a run's figures to files and services beside the run folder."""
