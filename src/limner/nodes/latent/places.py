"""Pixels and places: latents of pictures are thought to have one place for eight by eight pixels."""

from __future__ import annotations

PIXELS = 8
"""Edge of a place in pixels, as nodes count that do not know the model."""

LEAST = 64
"""Pixels that an edge of a latent has at the least, where a node makes one smaller or larger."""
