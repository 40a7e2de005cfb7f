"""Nodes that say where, when and how much a conditioning counts."""

from __future__ import annotations

from typing import Annotated

from limner.errors import UnfitInput
from limner.graph.node import node
from limner.graph.types import Choices, Float, Int
from limner.nodes.conditioning.changing import with_extras
from limner.nodes.sockets import Conditioning, Mask

PIXELS_PER_PLACE = 8

Edge = Annotated[int, Int(64, 16384, step=8)]
Offset = Annotated[int, Int(0, 16384, step=8)]
Part = Annotated[float, Float(0, 1, step=0.01)]
Strength = Annotated[float, Float(0, 10, step=0.01)]


@node("ConditioningSetArea", display_name="Conditioning (Set Area)", category="conditioning")
def set_area(
    *,
    conditioning: Conditioning,
    width: Edge = 64,
    height: Edge = 64,
    x: Offset = 0,
    y: Offset = 0,
    strength: Strength = 1.0,
) -> Conditioning:
    """Makes a conditioning count within a rectangle only, told in pixels. Its edges fade into what surrounds it."""
    area = tuple(edge // PIXELS_PER_PLACE for edge in (height, width, y, x))
    return with_extras(conditioning, {"area": area, "strength": strength, "set_area_to_bounds": False})


@node("ConditioningSetAreaPercentage", display_name="Conditioning (Set Area with Percentage)", category="conditioning")
def set_area_percentage(
    *,
    conditioning: Conditioning,
    width: Part = 1.0,
    height: Part = 1.0,
    x: Part = 0.0,
    y: Part = 0.0,
    strength: Strength = 1.0,
) -> Conditioning:
    """Makes a conditioning count within a rectangle only, told in parts of the picture's edges."""
    area = ("percentage", height, width, y, x)
    return with_extras(conditioning, {"area": area, "strength": strength, "set_area_to_bounds": False})


@node("ConditioningSetAreaStrength", category="conditioning")
def set_area_strength(*, conditioning: Conditioning, strength: Strength = 1.0) -> Conditioning:
    """Says how much a conditioning counts beside the others in the same place."""
    return with_extras(conditioning, {"strength": strength})


@node("ConditioningSetMask", display_name="Conditioning (Set Mask)", category="conditioning")
def set_mask(
    *,
    conditioning: Conditioning,
    mask: Mask,
    strength: Strength = 1.0,
    set_cond_area: Annotated[str, Choices("default", "mask bounds")],
) -> Conditioning:
    """Makes a conditioning count as much as a mask says at each place; of any size, it is fitted to the picture.

    set_cond_area: "mask bounds" shows the model no more of the picture than the mask covers.
    """
    if mask.ndim not in (2, 3) or mask.numel() == 0:
        raise UnfitInput(f"the mask has the shape {tuple(mask.shape)}; (batch, height, width) is wanted")
    extras = {"mask": mask if mask.ndim == 3 else mask[None], "mask_strength": strength}
    return with_extras(conditioning, {**extras, "set_area_to_bounds": set_cond_area != "default"})


@node("ConditioningSetTimestepRange", category="advanced/conditioning")
def set_timestep_range(
    *,
    conditioning: Conditioning,
    start: Annotated[float, Float(0, 1, step=0.001)] = 0.0,
    end: Annotated[float, Float(0, 1, step=0.001)] = 1.0,
) -> Conditioning:
    """Makes a conditioning count during a part of the way only: 0 is its beginning, pure noise, 1 its end."""
    return with_extras(conditioning, {"start_percent": start, "end_percent": end})
