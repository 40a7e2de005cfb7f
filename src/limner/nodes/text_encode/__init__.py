"""Nodes that turn prompts into conditioning, and that load and change text encoders."""
