"""Nodes that change models, merge them, and write them to files."""
