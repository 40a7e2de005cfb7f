"""Nodes that make, change and join latents, without a model."""
