"""Flower's deployment engine: SuperLink, Redis and nodes as processes of this machine."""
