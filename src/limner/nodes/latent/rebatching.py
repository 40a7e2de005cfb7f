"""Batches of latents taken apart into single ones, and put together again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from limner.diffusion.latents import Latent
from limner.errors import UnfitInput
from limner.nodes.fitting import masks, repeated, samples_of
from limner.nodes.latent.places import PIXELS
from limner.nodes.scaling import scale_masks


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A latent of a batch: samples (C, ...), its mask (H, W) in pixels if it has one, and its draw of noise."""

    samples: Tensor
    mask: Tensor | None
    place: int


def places_of(latent: Latent, first: int = 0) -> list[int]:
    """Which draw of noise each latent of a batch gets; where nothing says so they count up from `first`."""
    samples, places = samples_of(latent), latent.get("batch_index")
    if not places:
        return list(range(first, first + len(samples)))
    if len(places) != len(samples):
        raise UnfitInput(f"a batch of {len(samples)} latents has {len(places)} draws of noise (batch_index)")
    return list(places)


def items_of(latent: Latent, first_place: int = 0) -> Iterator[Item]:
    """The latents of a batch one by one. Those without a draw of noise count up from `first_place`."""
    samples, places = samples_of(latent), places_of(latent, first_place)
    mask = latent.get("noise_mask")
    if mask is None:
        each_mask: Sequence[Tensor | None] = [None] * len(samples)
    else:
        height, width = (edge * PIXELS for edge in samples.shape[-2:])
        each_mask = list(repeated(scale_masks(masks(mask, "noise_mask"), width, height), len(samples)))
    for item, item_mask, place in zip(samples, each_mask, places, strict=True):
        yield Item(samples=item, mask=item_mask, place=place)


def joined(items: Sequence[Item]) -> Latent:
    """One batch of latents of equal size. Where some have a mask, the others get one that covers all."""
    latent: Latent = {
        "samples": torch.stack([item.samples for item in items]),
        "batch_index": [item.place for item in items],
    }
    known = next((item.mask for item in items if item.mask is not None), None)
    if known is not None:
        latent["noise_mask"] = torch.stack(
            [torch.ones_like(known) if item.mask is None else item.mask for item in items]
        )
    return latent
