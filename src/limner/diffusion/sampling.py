"""One walk from noise to a latent: noise, start, mask and sampler put together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from limner.diffusion import noise
from limner.diffusion.denoiser import Denoiser, Prediction
from limner.diffusion.samplers import OnStep, Sampler, ignore


@dataclass(frozen=True, slots=True, kw_only=True)
class Walk:
    """What a walk needs to know. sigmas: falling; fewer than two leave the latent as it is. seed: 0..2**64 - 1.

    places: see `noise.initial`. mask: 1 where to paint, 0 what to keep; any size, fitted to the latent.
    """

    prediction: Prediction
    sampler: Sampler
    sigmas: Tensor
    seed: int
    places: Sequence[int] | None = None
    mask: Tensor | None = None

    def run(self, denoise: Denoiser, latent: Tensor, *, on_step: OnStep = ignore) -> Tensor:
        """The latent after the walk. latent: (B, C, h, w) float32 in the network's units; zeros for a new picture."""
        if len(self.sigmas) < 2:
            return latent
        sigmas = self.sigmas.to(latent.device)
        first = noise.initial(self.seed, latent, self.places)
        if self.mask is not None:
            denoise = keeping(denoise, latent, first, fit_mask(self.mask, latent))
        start = self.prediction.start(first, latent, sigmas[0])
        return self.sampler(denoise, start, sigmas, draw=noise.stream(self.seed, start), on_step=on_step)


def keeping(denoise: Denoiser, latent: Tensor, first: Tensor, mask: Tensor) -> Denoiser:
    """A denoiser that paints where the mask is 1, and holds the latent (under the right noise) where it is 0."""

    def masked(x: Tensor, sigma: Tensor) -> Tensor:
        clean = denoise(x * mask + (latent + first * sigma) * (1 - mask), sigma)
        return clean * mask + latent * (1 - mask)

    return masked


def fit_mask(mask: Tensor, latent: Tensor) -> Tensor:
    """A mask (H, W), (B, H, W) or (B, 1, H, W) in the size of the latent: (B or 1, 1, h, w), same device and dtype."""
    mask = mask.reshape(-1, 1, *mask.shape[-2:]).to(latent)
    mask = F.interpolate(mask, size=latent.shape[-2:], mode="bilinear")
    if len(mask) in (1, len(latent)):
        return mask
    return torch.cat([mask] * -(-len(latent) // len(mask)))[: len(latent)]
