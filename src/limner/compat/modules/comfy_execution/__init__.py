"""Graphs, blockers and what a node may know of the run it is in."""
