"""Nodes that make latents out of noise: samplers whole and in parts."""
