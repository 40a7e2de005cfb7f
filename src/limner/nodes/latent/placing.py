"""Nodes that turn, mirror and cut latents, and put them side by side."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor

from limner.errors import UnfitInput
from limner.graph.node import node
from limner.graph.types import Choices, Int
from limner.nodes.fitting import counted, planes_of, repeated
from limner.nodes.latent.places import LEAST, PIXELS
from limner.nodes.sockets import Latent

MODULE = "comfy_extras.nodes_latent"
QUARTERS = {"none": 0, "90 degrees": 1, "180 degrees": 2, "270 degrees": 3}
FLIPS = {"x-axis: vertically": -2, "y-axis: horizontally": -1}
DIRECTIONS = {"x": -1, "y": -2, "t": -3}
"""Dimensions by name. Time stands where pictures without time have their channels."""


@node("LatentRotate", display_name="Rotate Latent", category="latent/transform")
def rotate_latent(*, samples: Latent, rotation: Annotated[str, Choices(*QUARTERS)]) -> Latent:
    """Turns latents clockwise by quarters."""
    return {**samples, "samples": torch.rot90(planes_of(samples), k=QUARTERS[rotation], dims=[-1, -2])}


@node("LatentFlip", display_name="Flip Latent", category="latent/transform")
def flip_latent(*, samples: Latent, flip_method: Annotated[str, Choices(*FLIPS)]) -> Latent:
    """Mirrors latents: vertically (upside down) or horizontally (left to right)."""
    return {**samples, "samples": planes_of(samples).flip(FLIPS[flip_method])}


@node("LatentCrop", display_name="Crop Latent", category="latent/transform")
def crop_latent(
    *,
    samples: Latent,
    width: Annotated[int, Int(64, 16384, step=8)] = 512,
    height: Annotated[int, Int(64, 16384, step=8)] = 512,
    x: Annotated[int, Int(0, 16384, step=8)] = 0,
    y: Annotated[int, Int(0, 16384, step=8)] = 0,
) -> Latent:
    """Cuts a part out of latents, told in pixels. It is moved to where at least 64 pixels of the latent lie in it."""
    counted(width=width, height=height, x=x, y=y)
    tensor = planes_of(samples)
    rows = _part(tensor.shape[-2], y // PIXELS, height // PIXELS)
    columns = _part(tensor.shape[-1], x // PIXELS, width // PIXELS)
    return {**samples, "samples": tensor[..., rows, columns]}


def _part(size: int, start: int, length: int) -> slice:
    """Places of a row. One of less than 64 pixels is counted from its end, and may come out empty."""
    start = min(start, size - LEAST // PIXELS)
    return slice(start, start + length)


@node("LatentConcat", category="latent/advanced", module=MODULE, schema_style=True)
def concat_latents(
    *, samples1: Latent, samples2: Latent, dim: Annotated[str, Choices("x", "-x", "y", "-y", "t", "-t")]
) -> Latent:
    """Puts latents side by side (x), one below the other (y) or one after the other in time (t); with -, turned round.

    The second batch is repeated or cut to the length of the first one. Latents without time are joined by channels.
    """
    first = planes_of(samples1, "samples1")
    second = repeated(planes_of(samples2, "samples2"), len(first)).to(first)
    along = DIRECTIONS[dim.removeprefix("-")]
    if _but(first, along) != _but(second, along):
        raise UnfitInput(f"latents of {tuple(first.shape)} and {tuple(second.shape)} do not fit together along {dim}")
    return {**samples1, "samples": torch.cat([second, first] if dim.startswith("-") else [first, second], dim=along)}


def _but(tensor: Tensor, along: int) -> list[int]:
    """The shape without one dimension."""
    shape = list(tensor.shape)
    del shape[along]
    return shape


@node("LatentCut", category="latent/advanced", module=MODULE, schema_style=True)
def cut_latent(
    *,
    samples: Latent,
    dim: Annotated[str, Choices(*DIRECTIONS)],
    index: Annotated[int, Int(-16384, 16384, step=1)] = 0,
    amount: Annotated[int, Int(1, 16384, step=1)] = 1,
) -> Latent:
    """Cuts some places out of latents along x, y or time. A negative index counts from the end."""
    tensor, along = planes_of(samples), DIRECTIONS[dim]
    size = tensor.shape[along]
    start = min(max(index, -size), size - 1)
    start += size if start < 0 else 0
    return {**samples, "samples": tensor.narrow(along, start, min(amount, size - start))}
