"""Nodes that change masks, and join two of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import torch
from torch import Tensor

from limner.errors import UnfitInput
from limner.graph.node import node
from limner.graph.types import Choices, Flag, Float, Int
from limner.nodes.fitting import counted, masks
from limner.nodes.growth import dilated, dilated_in_diamonds
from limner.nodes.mask.making import MODULE
from limner.nodes.sockets import Mask


@node("InvertMask", category="mask", module=MODULE)
def invert_mask(*, mask: Mask) -> Mask:
    """Covers what a mask leaves free, and the other way round."""
    return 1 - mask


@node("CropMask", category="mask", module=MODULE)
def crop_mask(
    *,
    mask: Mask,
    x: Annotated[int, Int(0, 16384, step=1)] = 0,
    y: Annotated[int, Int(0, 16384, step=1)] = 0,
    width: Annotated[int, Int(1, 16384, step=1)] = 512,
    height: Annotated[int, Int(1, 16384, step=1)] = 512,
) -> Mask:
    """Cuts a part out of masks. What would lie outside is left out."""
    counted(x=x, y=y, width=width, height=height)
    whole = masks(mask)
    if x >= whole.shape[2] or y >= whole.shape[1]:
        raise UnfitInput(f"a part at {x}, {y} lies outside of a mask of {whole.shape[2]}x{whole.shape[1]} pixels")
    return whole[:, y : y + height, x : x + width]


OPERATIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "multiply": torch.mul,
    "add": torch.add,
    "subtract": torch.sub,
    "and": lambda below, above: (below.round().bool() & above.round().bool()).to(below.dtype),
    "or": lambda below, above: (below.round().bool() | above.round().bool()).to(below.dtype),
    "xor": lambda below, above: (below.round().bool() ^ above.round().bool()).to(below.dtype),
}


@node("MaskComposite", category="mask", module=MODULE)
def composite_masks(
    *,
    destination: Mask,
    source: Mask,
    x: Annotated[int, Int(0, 16384, step=1)] = 0,
    y: Annotated[int, Int(0, 16384, step=1)] = 0,
    operation: Annotated[str, Choices(*OPERATIONS)],
) -> Mask:
    """Joins a mask with another one that lies at x, y of it. and, or and xor take values above 0.5 for 1.

    What reaches out is left out. A single mask is joined with each of a batch.
    """
    counted(x=x, y=y)
    below, above = masks(destination, "destination"), masks(source, "source").to(destination)
    count = max(len(below), len(above))
    if {len(below), len(above)} - {1, count}:
        raise UnfitInput(f"{len(below)} masks cannot be joined with {len(above)}: equally many, or one, are wanted")
    result = below.expand(count, -1, -1).clone()
    part = result[:, y : y + above.shape[1], x : x + above.shape[2]]
    part.copy_(OPERATIONS[operation](part, above[:, : part.shape[1], : part.shape[2]]))
    return result.clamp(0, 1)


@node("FeatherMask", category="mask", module=MODULE)
def feather_mask(
    *,
    mask: Mask,
    left: Annotated[int, Int(0, 16384, step=1)] = 0,
    top: Annotated[int, Int(0, 16384, step=1)] = 0,
    right: Annotated[int, Int(0, 16384, step=1)] = 0,
    bottom: Annotated[int, Int(0, 16384, step=1)] = 0,
) -> Mask:
    """Fades masks out towards their edges, over so many pixels each.

    As workflows are used to it, the steps on the right and at the bottom lie one pixel farther out than those on the
    left and at the top, so that the first of them falls on the opposite edge.
    """
    counted(left=left, top=top, right=right, bottom=bottom)
    whole = masks(mask)
    _, height, width = whole.shape
    columns = _fading(width, left) * _fading(width, right).flip(0).roll(1)
    rows = _fading(height, top) * _fading(height, bottom).flip(0).roll(1)
    return whole * (rows[:, None] * columns).to(whole)


def _fading(size: int, length: int) -> Tensor:
    """What the places of a row are multiplied with: rising over `length` of them, then 1."""
    length = min(length, size)
    fading = torch.ones(size)
    fading[:length] = torch.arange(1, length + 1) / max(1, length)
    return fading


@node("GrowMask", category="mask", module=MODULE)
def grow_mask(
    *,
    mask: Mask,
    expand: Annotated[int, Int(-16384, 16384, step=1)] = 0,
    tapered_corners: Annotated[bool, Flag()] = True,
) -> Mask:
    """Grows what masks cover by so many pixels, or shrinks it where the number is negative.

    tapered_corners: steps go up, down, left and right only, which cuts corners off.
    """
    whole, steps = masks(mask), abs(expand)
    if expand < 0:
        return -_grown(-whole, steps, tapered=tapered_corners)
    return _grown(whole, steps, tapered=tapered_corners)


def _grown(whole: Tensor, steps: int, *, tapered: bool) -> Tensor:
    return dilated_in_diamonds(whole, steps) if tapered else dilated(whole, 2 * steps + 1)


@node("ThresholdMask", category="mask", module=MODULE)
def threshold_mask(*, mask: Mask, value: Annotated[float, Float(0, 1, step=0.01)] = 0.5) -> Mask:
    """Makes masks hard: 1 where they are above the value, else 0."""
    return (mask > value).float()
