"""Flower's Ray simulation."""
