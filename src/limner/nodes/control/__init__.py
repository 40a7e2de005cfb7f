"""Nodes for control networks."""
