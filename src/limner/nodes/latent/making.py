"""Nodes that make latents of nothing."""

from __future__ import annotations

from typing import Annotated

from limner.diffusion.latents import empty
from limner.graph.node import node
from limner.graph.types import Int
from limner.nodes.memory import check_room
from limner.nodes.sockets import Latent


@node("EmptyLatentImage", display_name="Empty Latent Image", category="latent")
def empty_latent(
    *,
    width: Annotated[int, Int(16, 16384, step=8)] = 512,
    height: Annotated[int, Int(16, 16384, step=8)] = 512,
    batch_size: Annotated[int, Int(1, 4096)] = 1,
) -> Latent:
    """An empty latent: the start of new pictures of this size in pixels."""
    check_room(batch_size, 4, height // 8, width // 8)
    return empty(width, height, batch_size)
