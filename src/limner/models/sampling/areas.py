"""Areas and masks of conditionings: in which part of the latent each counts, and how much."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from limner.diffusion.conditioning import fit_batch
from limner.diffusion.conds import Area
from limner.diffusion.planes import SMOOTH
from limner.errors import UnfitInput

FEATHER = 8
"""Over how many places an area fades in at an edge that is not the latent's own."""

LEAST_BOUNDS = 8
"""The least edge, in places, of an area that is told by a mask."""


def placed_area(area: Sequence[Any], edges: Sequence[int]) -> Area:
    """An area in places: its edges, then where it begins. ("percentage", ...) tells them as parts of the latent's.

    Raises UnfitInput where it lies outside of the latent, or has another number of edges.
    """
    relative = area[0] == "percentage"
    told = list(area[1:] if relative else area)
    count = len(edges)
    if len(told) != 2 * count:
        raise UnfitInput(f"an area of {len(told) // 2} edges does not fit a latent of {count}")
    if relative:
        lengths = [max(1, round(part * edge)) for part, edge in zip(told[:count], edges, strict=True)]
        starts = [round(part * edge) for part, edge in zip(told[count:], edges, strict=True)]
    else:
        lengths, starts = told[:count], told[count:]
    for start, edge in zip(starts, edges, strict=True):
        if not 0 <= start < edge:
            raise UnfitInput(
                f"a conditioning's area begins at place {start} of a latent with {edge}; one place is 8 pixels in most "
                "families"
            )
    lengths = [min(length, edge - start) for length, start, edge in zip(lengths, starts, edges, strict=True)]
    if min(lengths) < 1:
        raise UnfitInput(f"a conditioning's area has the edges {lengths}; each must be at least one place")
    return (*lengths, *starts)


def placed_mask(mask: Tensor, edges: Sequence[int], device: torch.device) -> tuple[Tensor, Area]:
    """A mask (H, W) or (B, H, W) in the latent's size, and the area within which it is not 0.

    Raises UnfitInput where it has another number of edges.
    """
    mask = mask.to(device, torch.float32)
    if mask.ndim == len(edges):
        mask = mask[None]
    if mask.ndim != len(edges) + 1 or len(mask) == 0:
        raise UnfitInput(f"a conditioning's mask has the shape {tuple(mask.shape)}; (batch, height, width) is wanted")
    if mask.shape[1:] != torch.Size(edges):
        mask = F.interpolate(mask[:, None], size=tuple(edges), mode=SMOOTH[len(edges)])[:, 0]
    return mask, _bounds(mask, edges)


def _bounds(mask: Tensor, edges: Sequence[int]) -> Area:
    covered = mask.abs().amax(dim=0) != 0
    lengths, starts = [], []
    for dim, edge in enumerate(edges):
        others = [other for other in range(covered.ndim) if other != dim]
        places = (covered.any(dim=others) if others else covered).nonzero()
        first, last = (int(places.min()), int(places.max())) if len(places) else (0, 0)
        lengths.append(min(max(LEAST_BOUNDS, last - first + 1), edge - first))
        starts.append(first)
    return (*lengths, *starts)


def part_of(x: Tensor, area: Area | None) -> Tensor:
    """The area's part of x (B, C, ...), a view."""
    if area is None:
        return x
    count = len(area) // 2
    for dim in range(count):
        x = x.narrow(2 + dim, area[count + dim], area[dim])
    return x


def weight(cond: Mapping[str, Any], x: Tensor, whole: Tensor) -> Tensor:
    """How much a conditioning's answer counts at each place: (B or 1, 1, ...). x: its area's part of `whole`.

    Its strength, times its mask; an area without a mask fades in at its edges within the latent.
    """
    area: Area | None = cond.get("area")
    strength = float(cond.get("strength", 1.0))
    if cond.get("mask") is not None:
        mask = part_of(fit_batch(cond["mask"], len(x))[:, None], area)
        return mask * (float(cond.get("mask_strength", 1.0)) * strength)
    made = torch.full((1, 1, *x.shape[2:]), strength, device=x.device, dtype=x.dtype)
    if area is not None:
        count = len(area) // 2
        for dim in range(count):
            length, start, edge = area[dim], area[count + dim], whole.shape[2 + dim]
            fade = min(FEATHER, made.shape[2 + dim] // 4)
            for place in range(fade):
                part = (place + 1) / fade
                if start > 0:
                    made.narrow(2 + dim, place, 1).mul_(part)
                if start + length < edge:
                    made.narrow(2 + dim, length - 1 - place, 1).mul_(part)
    return made


def size(area: Area) -> int:
    """How many places an area has."""
    return math.prod(area[: len(area) // 2])


def inside(inner: Area, outer: Area) -> bool:
    """Whether an area lies within another."""
    count = len(inner) // 2
    return all(
        outer[count + dim] <= inner[count + dim] and inner[count + dim] + inner[dim] <= outer[count + dim] + outer[dim]
        for dim in range(count)
    )
