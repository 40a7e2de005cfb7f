"""Numbers as waves, which is how networks are told them."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def sinusoidal(values: Tensor, width: int) -> Tensor:
    """Values (N,) as cosines and then sines of `width / 2` frequencies from 1 down to 1/10000, (N, width) float32.

    Ho et al. 2020, arXiv:2006.11239, appendix B.
    """
    half = width // 2
    frequencies = torch.exp(-math.log(10000) * torch.arange(half, dtype=torch.float32, device=values.device) / half)
    angles = values.float()[:, None] * frequencies
    waves = torch.cat([angles.cos(), angles.sin()], dim=-1)
    return torch.nn.functional.pad(waves, (0, width - 2 * half))
