"""NoiseAugmentation: the encoding of a picture under noise, as unCLIP models take it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from limner.diffusion.embedding import sinusoidal
from limner.models.weights import Weights

LEVELS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseAugmentation:
    """Encodings of pictures, put to unit variance by `mean` and `std` (1, width), under one of 1000 levels of noise.

    Levels: alphas fall as a squared cosine. Nichol and Dhariwal 2021, arXiv:2102.09672, equation 17.
    """

    mean: Tensor | None = None
    std: Tensor | None = None

    @classmethod
    def of(cls, file: Weights) -> NoiseAugmentation:
        """With the mean and the spread that the file tells, if it does."""
        keys = ("noise_augmentor.data_mean", "noise_augmentor.data_std")
        if not all(key in file for key in keys):
            return cls()
        mean, std = (file.tensor(key).float().reshape(1, -1) for key in keys)
        return cls(mean=mean, std=std)

    def noised(self, pictures: Tensor, amount: float, seed: int) -> Tensor:
        """Encodings (B, width) with noise of this amount (0..1), and the level behind: (B, 2 * width)."""
        level = round((LEVELS - 1) * min(max(amount, 0.0), 1.0))
        pictures = pictures.cpu()
        mean = torch.zeros(1) if self.mean is None else self.mean
        std = torch.ones(1) if self.std is None else self.std
        noise = torch.randn(pictures.shape, generator=torch.Generator().manual_seed(seed % 2**63))
        kept = _kept(level)
        noised = (pictures - mean) / std * math.sqrt(kept) + noise * math.sqrt(1 - kept)
        told = sinusoidal(torch.full((len(pictures),), float(level)), pictures.shape[-1])
        return torch.cat([noised * std + mean, told], dim=-1)


def _kept(level: int) -> float:
    """The share of the picture's variance that is left at a level."""

    def cosine(t: float) -> float:
        return math.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2

    steps = (1 - min(1 - cosine((step + 1) / LEVELS) / cosine(step / LEVELS), 0.999) for step in range(level + 1))
    return math.prod(steps)
