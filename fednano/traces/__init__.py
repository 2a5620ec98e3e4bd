"""Recorded signals over time: carbon intensity, price, solar power."""
