"""Nodes that make, change, join and keep pictures."""
