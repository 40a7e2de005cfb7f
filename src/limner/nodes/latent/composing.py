"""Nodes that put latents into latents, and say where they are to be painted."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor

from limner.errors import UnfitInput
from limner.graph.node import node
from limner.graph.types import Flag, Int
from limner.nodes.fitting import counted, masks, planes_of, repeated
from limner.nodes.latent.places import PIXELS
from limner.nodes.pasting import pasted
from limner.nodes.sockets import Latent, Mask


@node("SetLatentNoiseMask", display_name="Set Latent Noise Mask", category="latent/inpaint")
def set_noise_mask(*, samples: Latent, mask: Mask) -> Latent:
    """Says where latents are to be painted: where the mask is 1. The rest stays as it is."""
    return {**samples, "noise_mask": masks(mask)[:, None]}


@node("LatentComposite", display_name="Latent Composite", category="latent")
def composite_latents(
    *,
    samples_to: Latent,
    samples_from: Latent,
    x: Annotated[int, Int(0, 16384, step=8)] = 0,
    y: Annotated[int, Int(0, 16384, step=8)] = 0,
    feather: Annotated[int, Int(0, 16384, step=8)] = 0,
) -> Latent:
    """Puts latents into others, with the left upper corner at x, y in pixels; what reaches out is left out.

    feather: over so many pixels they fade in, on sides that do not lie at the edge of the latent below.
    """
    counted(x=x, y=y, feather=feather)
    below, above = _both(samples_to, samples_from, "samples_to", "samples_from")
    height, width = below.shape[-2:]
    left, top = min(x // PIXELS, width), min(y // PIXELS, height)
    above = repeated(above, len(below))[..., : height - top, : width - left]
    rows, columns = above.shape[-2:]
    length = feather // PIXELS
    fade_rows = _fading(rows, length, before=top > 0, after=top + rows < height)
    fade_columns = _fading(columns, length, before=left > 0, after=left + columns < width)
    share = (fade_rows[:, None] * fade_columns).to(below)
    result = below.clone()
    window = result[..., top : top + rows, left : left + columns]
    window.copy_(above * share + window * (1 - share))
    return {**samples_to, "samples": result}


@node("LatentCompositeMasked", category="latent", module="comfy_extras.nodes_mask")
def composite_masked(
    *,
    destination: Latent,
    source: Latent,
    x: Annotated[int, Int(0, 16384, step=8)] = 0,
    y: Annotated[int, Int(0, 16384, step=8)] = 0,
    resize_source: Annotated[bool, Flag()] = False,
    mask: Mask | None = None,
) -> Latent:
    """Puts the source into the destination, with its left upper corner at x, y in pixels, where the mask is 1."""
    below, above = _both(destination, source, "destination", "source")
    result = pasted(below, above, x // PIXELS, y // PIXELS, mask=mask, fit=resize_source)
    return {**destination, "samples": result}


def _both(one: Latent, other: Latent, name: str, other_name: str) -> tuple[Tensor, Tensor]:
    """The samples of both. Raises UnfitInput where they have not the same channels."""
    below, above = planes_of(one, name), planes_of(other, other_name)
    if below.shape[1:-2] != above.shape[1:-2]:
        raise UnfitInput(
            f"{other_name} has the shape {tuple(above.shape)}, {name} {tuple(below.shape)}: "
            "they are not of one kind of model"
        )
    return below, above.to(below)


def _fading(size: int, length: int, *, before: bool, after: bool) -> Tensor:
    """What the places of a row count: rising over `length` places at the ends that are told, else 1."""
    places = torch.arange(1, size + 1, dtype=torch.float32)
    rise = (places / max(1, length)).clamp(max=1)
    fading = torch.ones(size)
    return fading * (rise if before else 1) * (rise.flip(0) if after else 1)
