"""Nodes for masks, and pasting under a mask."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from limner.compat.core_classes import classes_of
from limner.nodes.pasting import pasted

globals().update(classes_of("comfy_extras.nodes_mask"))


def composite(
    destination: Tensor,
    source: Tensor,
    x: int,
    y: int,
    mask: Any = None,
    multiplier: int = 8,
    resize_source: bool = False,
) -> Tensor:
    """Planes (B, C, H, W) with others put in; x and y are in pixels, of which `multiplier` make a place."""
    return pasted(destination, source, x // multiplier, y // multiplier, mask=mask, fit=resize_source)
