"""The node that blends two pictures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import torch
from torch import Tensor

from limner.errors import UnfitInput
from limner.graph.node import node
from limner.graph.types import Choices, Float
from limner.nodes.fitting import pictures, with_channels
from limner.nodes.scaling import scale
from limner.nodes.sockets import Image


def _overlay(below: Tensor, above: Tensor) -> Tensor:
    return torch.where(below <= 0.5, 2 * below * above, 1 - 2 * (1 - below) * (1 - above))


def _soft_light(below: Tensor, above: Tensor) -> Tensor:
    """As in W3C's "Compositing and Blending Level 1", section 10.1.9."""
    lift = torch.where(below <= 0.25, ((16 * below - 12) * below + 4) * below, below.sqrt())
    darker = below - (1 - 2 * above) * below * (1 - below)
    return torch.where(above <= 0.5, darker, below + (2 * above - 1) * (lift - below))


BLENDS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "normal": lambda below, above: above,  # noqa: ARG005
    "multiply": lambda below, above: below * above,
    "screen": lambda below, above: 1 - (1 - below) * (1 - above),
    "overlay": _overlay,
    "soft_light": _soft_light,
    "difference": lambda below, above: below - above,
}


@node("ImageBlend", category="image/postprocessing", module="comfy_extras.nodes_post_processing", schema_style=True)
def blend_images(
    *,
    image1: Image,
    image2: Image,
    blend_factor: Annotated[float, Float(0, 1, step=0.01)] = 0.5,
    blend_mode: Annotated[str, Choices(*BLENDS)],
) -> Image:
    """Blends the second picture over the first. The second is brought to the size of the first, cut in the middle.

    blend_factor: how much of the blend shows; at 0 the first picture stays as it is.
    """
    below = pictures(image1, "image1")
    above = with_channels(pictures(image2, "image2"), below.shape[-1]).to(below)
    if len(below) != len(above) and 1 not in (len(below), len(above)):
        raise UnfitInput(f"{len(below)} pictures cannot be blended with {len(above)}: equally many, or one, are wanted")
    if above.shape[1:3] != below.shape[1:3]:
        above = scale(above, below.shape[2], below.shape[1], "bicubic", "center")
    return torch.lerp(below, BLENDS[blend_mode](below, above), blend_factor).clamp(0, 1)
