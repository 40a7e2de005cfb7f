"""One walk from noise to a latent: noise, start, mask and sampler put together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from limner.diffusion import noise
from limner.diffusion.denoiser import Denoiser, Guided, Prediction
from limner.diffusion.path import Path
from limner.diffusion.samplers import OnStep, Sampler, ignore


@dataclass(frozen=True, slots=True, kw_only=True)
class Walk:
    """What a walk needs to know. sigmas: falling; fewer than two leave the latent as it is. seed: 0..2**64 - 1.

    places: see `noise.initial`. mask: 1 where to paint, 0 what to keep; any size, fitted to the latent. add_noise: off
    where the latent still has the noise of sigmas[0].
    """

    prediction: Prediction
    sampler: Sampler
    sigmas: Tensor
    seed: int
    places: Sequence[int] | None = None
    mask: Tensor | None = None
    add_noise: bool = True

    def run(self, denoise: Denoiser | Guided, latent: Tensor, *, on_step: OnStep = ignore) -> Tensor:
        """The latent after the walk. latent: (B, C, h, w) float32 in the network's units; zeros for a new picture."""
        if len(self.sigmas) < 2:
            return latent
        path, sigmas = self.prediction.path, self.sampler.passed(self.sigmas.to(latent.device))
        first = noise.initial(self.seed, latent, self.places) if self.add_noise else torch.zeros_like(latent)
        if self.mask is not None:
            fill = noise.initial((self.seed + 1) % 2**64, latent) if self.sampler.own_fill else first
            denoise = Keeping(denoise, path, latent, fill, fit_mask(self.mask, latent))
        start = self.prediction.start(first, latent, sigmas[0])
        x = self.sampler(
            denoise,
            start,
            sigmas,
            path=path,
            draw=noise.stream(self.seed, start),
            between=self._bridge(start) if self.sampler.takes("between") else None,
            at=self.prediction.levels.at,
            on_step=on_step,
        )
        return self.prediction.end(x, sigmas[-1])

    def _bridge(self, x: Tensor) -> noise.Between:
        levels = self.sigmas[self.sigmas > 0]
        like = x if self.sampler.on_device else x.cpu()
        bridge = noise.Bridge(seed=self.seed, like=like, low=float(levels.min()), high=float(levels.max()))
        return lambda now, then: bridge(now, then).to(x.device)


@dataclass(frozen=True, slots=True)
class Keeping:
    """A denoiser that paints where the mask is 1, and holds the latent (under the right noise) where it is 0."""

    denoise: Denoiser | Guided
    path: Path
    latent: Tensor
    fill: Tensor
    mask: Tensor

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        return self._kept(self.denoise(self._covered(x, sigma), sigma))

    def both(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        guided, unguided = self.denoise.both(self._covered(x, sigma), sigma)  # type: ignore[union-attr]
        return self._kept(guided), unguided

    def _covered(self, x: Tensor, sigma: Tensor) -> Tensor:
        return x * self.mask + self.path.noised(self.latent, self.fill, sigma) * (1 - self.mask)

    def _kept(self, clean: Tensor) -> Tensor:
        return clean * self.mask + self.latent * (1 - self.mask)


def fit_mask(mask: Tensor, latent: Tensor) -> Tensor:
    """A mask (H, W), (B, H, W) or (B, 1, H, W) in the size of the latent: (B or 1, 1, h, w), same device and dtype."""
    mask = mask.reshape(-1, 1, *mask.shape[-2:]).to(latent)
    mask = F.interpolate(mask, size=latent.shape[-2:], mode="bilinear")
    if len(mask) in (1, len(latent)):
        return mask
    return torch.cat([mask] * -(-len(latent) // len(mask)))[: len(latent)]
