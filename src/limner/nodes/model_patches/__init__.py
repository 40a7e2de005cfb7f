"""Nodes that change how a model is used: its noise levels, its guidance, what is hooked into its network."""
