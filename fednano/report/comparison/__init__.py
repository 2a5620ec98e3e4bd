"""Runs side by side: what differs in their configurations, and what that did to a figure."""
