"""Nodes that put pictures over pictures by masks and alpha."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import torch
from torch import Tensor

from limner.graph.node import node
from limner.graph.types import Choices, Flag, Int
from limner.nodes.fitting import coloured, masks, pictures, with_channels
from limner.nodes.memory import check_room
from limner.nodes.pasting import pasted
from limner.nodes.scaling import scale, scale_masks
from limner.nodes.sockets import Image, Mask

MODULE = "comfy_extras.nodes_compositing"
ALMOST_CLEAR = 1e-5
"""What has less alpha than this has no colour."""

Pair = tuple[Tensor, Tensor]
"""Colours times alpha, and alpha."""


@node("ImageCompositeMasked", category="image", module="comfy_extras.nodes_mask")
def composite_masked(
    *,
    destination: Image,
    source: Image,
    x: Annotated[int, Int(0, 16384, step=1)] = 0,
    y: Annotated[int, Int(0, 16384, step=1)] = 0,
    resize_source: Annotated[bool, Flag()] = False,
    mask: Mask | None = None,
) -> Image:
    """Puts the source into the destination, with its left upper corner at x, y. The mask shows it where it is 1."""
    below = pictures(destination, "destination")
    above = with_channels(pictures(source, "source"), below.shape[-1])
    planes = pasted(below.movedim(-1, 1), above.movedim(-1, 1), x, y, mask=mask, fit=resize_source)
    return planes.movedim(1, -1)


@node("SplitImageWithAlpha", display_name="Split Image with Alpha", category="mask/compositing", module=MODULE,
      schema_style=True)  # fmt: skip
def split_alpha(*, image: Image) -> tuple[Image, Mask]:
    """Takes pictures apart into colours and a mask, 1 where they are transparent. Without alpha the mask is empty."""
    colours = coloured(image)[..., :3]
    alpha = image[..., 3] if image.shape[-1] > 3 else torch.ones_like(image[..., 0])
    return colours, 1 - alpha


@node("JoinImageWithAlpha", display_name="Join Image with Alpha", category="mask/compositing", module=MODULE,
      schema_style=True)  # fmt: skip
def join_alpha(*, image: Image, alpha: Mask) -> Image:
    """Makes pictures transparent where the mask is 1. As many are joined as both batches have."""
    colours = coloured(image)[..., :3]
    count = min(len(colours), len(masks(alpha, "alpha")))
    stretched = scale_masks(masks(alpha, "alpha")[:count].to(colours), colours.shape[2], colours.shape[1])
    return torch.cat([colours[:count], 1 - stretched[..., None]], dim=-1)


def _over(source: Tensor, source_alpha: Tensor, destination: Tensor, destination_alpha: Tensor) -> Tensor:
    """What shows of each where the other is not."""
    return (1 - destination_alpha) * source + (1 - source_alpha) * destination


def _union(a: Tensor, b: Tensor) -> Tensor:
    return a + b - a * b


def _overlay(s: Tensor, sa: Tensor, d: Tensor, da: Tensor) -> Tensor:
    return torch.where(2 * d < da, 2 * s * d, sa * da - 2 * (da - s) * (sa - d))


MODES: dict[str, Callable[[Tensor, Tensor, Tensor, Tensor], Pair]] = {
    "ADD": lambda s, sa, d, da: ((s + d).clamp(0, 1), (sa + da).clamp(0, 1)),
    "CLEAR": lambda s, sa, d, da: (torch.zeros_like(d), torch.zeros_like(da)),  # noqa: ARG005
    "DARKEN": lambda s, sa, d, da: (_over(s, sa, d, da) + torch.minimum(s, d), _union(sa, da)),
    "DST": lambda s, sa, d, da: (d, da),  # noqa: ARG005
    "DST_ATOP": lambda s, sa, d, da: (sa * d + (1 - da) * s, sa),
    "DST_IN": lambda s, sa, d, da: (d * sa, sa * da),  # noqa: ARG005
    "DST_OUT": lambda s, sa, d, da: (d * (1 - sa), (1 - sa) * da),  # noqa: ARG005
    "DST_OVER": lambda s, sa, d, da: (d + (1 - da) * s, da + (1 - da) * sa),
    "LIGHTEN": lambda s, sa, d, da: (_over(s, sa, d, da) + torch.maximum(s, d), _union(sa, da)),
    "MULTIPLY": lambda s, sa, d, da: (s * d, sa * da),
    "OVERLAY": lambda s, sa, d, da: (_overlay(s, sa, d, da), _union(sa, da)),
    "SCREEN": lambda s, sa, d, da: (s + d - s * d, _union(sa, da)),
    "SRC": lambda s, sa, d, da: (s, sa),  # noqa: ARG005
    "SRC_ATOP": lambda s, sa, d, da: (da * s + (1 - sa) * d, da),
    "SRC_IN": lambda s, sa, d, da: (s * da, sa * da),  # noqa: ARG005
    "SRC_OUT": lambda s, sa, d, da: ((1 - da) * s, (1 - da) * sa),  # noqa: ARG005
    "SRC_OVER": lambda s, sa, d, da: (s + (1 - sa) * d, sa + (1 - sa) * da),
    "XOR": lambda s, sa, d, da: (_over(s, sa, d, da), (1 - da) * sa + (1 - sa) * da),
}
"""Source and destination, each as colours times alpha and alpha, to the same of what comes out."""


@node(
    "PorterDuffImageComposite",
    display_name="Porter-Duff Image Composite",
    category="mask/compositing",
    module=MODULE,
    schema_style=True,
)
def porter_duff(
    *,
    source: Image,
    source_alpha: Mask,
    destination: Image,
    destination_alpha: Mask,
    mode: Annotated[str, Choices(*MODES, options={})] = "DST",
) -> tuple[Image, Mask]:
    """Joins two pictures by their transparency (masks, 1 where they are clear) in one of Porter's and Duff's ways.

    Everything is brought to the size of the destination; as many are joined as all four batches have.
    Porter and Duff 1984, "Compositing digital images".
    """
    below = coloured(destination, "destination")[..., :3]
    above = coloured(source, "source")[..., :3].to(below)
    alphas = masks(source_alpha, "source_alpha"), masks(destination_alpha, "destination_alpha")
    count = min(len(below), len(above), *map(len, alphas))
    _, height, width, _ = below.shape
    check_room(count, height, width, 3)
    if above.shape[1:3] != (height, width):
        above = scale(above[:count], width, height, "bicubic", "center")
    sa, da = (1 - scale_masks(each[:count].to(below), width, height)[..., None] for each in alphas)
    colours, alpha = MODES[mode](above[:count] * sa, sa, below[:count] * da, da)
    plain = torch.where(alpha > ALMOST_CLEAR, colours / alpha, 0).clamp(0, 1)
    return plain, (1 - alpha)[..., 0]
