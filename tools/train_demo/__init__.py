"""Trains the checkpoint that ships with Limner: `python -m tools.train_demo --help`."""
