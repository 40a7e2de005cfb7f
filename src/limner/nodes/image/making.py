"""Nodes that make pictures of nothing."""

from __future__ import annotations

from typing import Annotated

import torch

from limner.graph.node import node
from limner.graph.types import Int
from limner.nodes.memory import check_room
from limner.nodes.sockets import Image


@node("EmptyImage", category="image")
def empty_image(
    *,
    width: Annotated[int, Int(1, 16384, step=1)] = 512,
    height: Annotated[int, Int(1, 16384, step=1)] = 512,
    batch_size: Annotated[int, Int(1, 4096)] = 1,
    color: Annotated[int, Int(0, 0xFFFFFF, step=1, display="color")] = 0,
) -> Image:
    """Pictures of one colour, told as 0xRRGGBB."""
    check_room(batch_size, height, width, 3)
    shades = torch.tensor([color >> 16 & 0xFF, color >> 8 & 0xFF, color & 0xFF]) / 255
    return shades.expand(batch_size, height, width, 3).clone()
