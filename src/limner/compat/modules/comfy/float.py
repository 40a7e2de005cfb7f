"""Rounding to few bits."""

from __future__ import annotations

import torch
from torch import Tensor

MANTISSA = {torch.float8_e4m3fn: (3, -6), torch.float8_e5m2: (2, -14)}
"""Bits behind the point, and the lowest exponent."""


def stochastic_rounding(value: Tensor, dtype: torch.dtype, seed: int = 0) -> Tensor:
    """A tensor in another precision; to 8 bits it is rounded up or down by chance, so that the mean stays."""
    if dtype not in MANTISSA:
        return value.to(dtype)
    bits, lowest = MANTISSA[dtype]
    wide = value.float()
    _, exponent = torch.frexp(wide)
    step = torch.exp2((exponent - 1).clamp(min=lowest).float() - bits)
    generator = torch.Generator(value.device).manual_seed(seed)
    chance = torch.rand(wide.shape, generator=generator, device=value.device)
    largest = torch.finfo(dtype).max
    return (((wide.abs() / step) + chance).floor() * step * wide.sign()).clamp(-largest, largest).to(dtype)
