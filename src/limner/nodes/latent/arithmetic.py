"""Nodes that count with latents."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor
from torch.linalg import vector_norm

from limner.errors import UnfitInput
from limner.graph.node import node
from limner.graph.types import Float
from limner.nodes.fitting import repeated, samples_of
from limner.nodes.latent.placing import MODULE
from limner.nodes.scaling import scale_planes
from limner.nodes.sockets import Latent

CATEGORY = "latent/advanced"


@node("LatentAdd", category=CATEGORY, module=MODULE, schema_style=True)
def add_latents(*, samples1: Latent, samples2: Latent) -> Latent:
    """Adds the second latents to the first. They are brought to the size of the first, cut in the middle."""
    first, second = _matched(samples1, samples2)
    return {**samples1, "samples": first + second}


@node("LatentSubtract", category=CATEGORY, module=MODULE, schema_style=True)
def subtract_latents(*, samples1: Latent, samples2: Latent) -> Latent:
    """Takes the second latents away from the first. They are brought to the size of the first, cut in the middle."""
    first, second = _matched(samples1, samples2)
    return {**samples1, "samples": first - second}


@node("LatentMultiply", category=CATEGORY, module=MODULE, schema_style=True)
def multiply_latent(*, samples: Latent, multiplier: Annotated[float, Float(-10, 10, step=0.01)] = 1.0) -> Latent:
    """Multiplies every value of latents."""
    return {**samples, "samples": samples_of(samples) * multiplier}


@node("LatentInterpolate", category=CATEGORY, module=MODULE, schema_style=True)
def interpolate_latents(
    *, samples1: Latent, samples2: Latent, ratio: Annotated[float, Float(0, 1, step=0.01)] = 1.0
) -> Latent:
    """Mixes latents: the directions of their places and the lengths are mixed apart. At 1 it is the first."""
    first, second = _matched(samples1, samples2)
    first_length, second_length = (vector_norm(each, dim=1, keepdim=True) for each in (first, second))
    mixed = _over(first, first_length) * ratio + _over(second, second_length) * (1 - ratio)
    direction = _over(mixed, vector_norm(mixed, dim=1, keepdim=True))
    return {**samples1, "samples": direction * (first_length * ratio + second_length * (1 - ratio))}


@node("LatentBlend", display_name="Latent Blend", category="_for_testing")
def blend_latents(
    *, samples1: Latent, samples2: Latent, blend_factor: Annotated[float, Float(0, 1, step=0.01)] = 0.5
) -> Latent:
    """Mixes latents; at a factor of 1 it is the first. The second are brought to its size, cut in the middle."""
    first, second = _matched(samples1, samples2, method="bicubic")
    return {**samples1, "samples": first * blend_factor + second * (1 - blend_factor)}


def _over(vectors: Tensor, lengths: Tensor) -> Tensor:
    """Vectors divided by their lengths; none stays none."""
    return torch.where(lengths > 0, vectors / lengths, 0)


def _matched(one: Latent, other: Latent, *, method: str = "bilinear") -> tuple[Tensor, Tensor]:
    """The samples of both, the second in the size and batch of the first. Raises UnfitInput."""
    first, second = samples_of(one, "samples1"), samples_of(other, "samples2")
    return first, repeated(as_large(second, first, method), len(first))


def as_large(second: Tensor, first: Tensor, method: str = "bilinear") -> Tensor:
    """Samples in the width and height of others, cut in the middle. Raises UnfitInput where more than that differs."""
    if second.shape[1:-2] != first.shape[1:-2] or (first.ndim < 4 and second.shape[1:] != first.shape[1:]):
        raise UnfitInput(
            f"latents of the shapes {tuple(first.shape)} and {tuple(second.shape)} are not of one kind of model"
        )
    if second.shape[-2:] != first.shape[-2:]:
        second = scale_planes(second, first.shape[-1], first.shape[-2], method, "center")
    return second.to(first)
