"""Nodes that change conditioning: where it counts, how much, and when."""
