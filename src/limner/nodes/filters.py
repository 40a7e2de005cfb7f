"""Smoothing and sharpening of planes (B, C, H, W), for pictures and latents alike. Edges are mirrored."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from limner.errors import UnfitInput

SHARPNESS = 10
"""How strongly a sharpening of 1 counts, as ComfyUI's workflows expect it."""


def blurred(planes: Tensor, radius: int, sigma: float) -> Tensor:
    """Gaussian blur over 2 * radius + 1 pixels each way. sigma is told in units of the radius. Raises UnfitInput."""
    if radius < 0 or not sigma > 0:
        raise UnfitInput(f"a blur of radius {radius} and sigma {sigma}: the radius is 0 or more, sigma above 0")
    weights = _weights(radius, sigma, planes)
    channels = planes.shape[1]
    for direction in (-1, -2):
        kernel = weights.reshape((1, -1) if direction == -1 else (-1, 1))
        planes = F.conv2d(
            _mirrored(planes, radius, direction), kernel.expand(channels, 1, *kernel.shape), groups=channels
        )
    return planes


def sharpened(planes: Tensor, radius: int, sigma: float, alpha: float) -> Tensor:
    """Unsharp masking: what a blur takes away is added, 10 * alpha times."""
    return planes + SHARPNESS * alpha * (planes - blurred(planes, radius, sigma))


def _weights(radius: int, sigma: float, like: Tensor) -> Tensor:
    places = torch.linspace(-1, 1, 2 * radius + 1, dtype=like.dtype, device=like.device)
    weights = (-(places**2) / (2 * sigma**2)).exp()
    return weights / weights.sum()


def _mirrored(planes: Tensor, radius: int, direction: int) -> Tensor:
    """Planes with `radius` more pixels at both ends of a dimension, mirrored, several times where few are there."""
    size = planes.shape[direction]
    period = max(1, 2 * (size - 1))
    places = torch.arange(-radius, size + radius, device=planes.device).remainder(period)
    return planes.index_select(direction, torch.minimum(places, period - places))
