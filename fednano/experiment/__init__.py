"""Typed parts of a run, built from a composed configuration; reopening of earlier runs."""
