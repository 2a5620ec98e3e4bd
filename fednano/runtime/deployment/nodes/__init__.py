"""Nodes of a deployment: when they run, and how they are started, ended and disturbed."""
