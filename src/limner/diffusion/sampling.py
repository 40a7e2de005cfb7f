"""One walk from noise to a latent: noise, start, mask and sampler put together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from limner.diffusion.conditioning import fit_batch
from limner.diffusion.denoiser import Denoiser, Guided, Prediction
from limner.diffusion.noise import Between, Bridge, initial, stream
from limner.diffusion.path import Path
from limner.diffusion.planes import SMOOTH
from limner.diffusion.samplers import OnStep, Sampler, ignore


@dataclass(frozen=True, slots=True, kw_only=True)
class Walk:
    """What a walk needs to know. sigmas: falling; fewer than two leave the latent as it is. seed: 0..2**64 - 1.

    noise: that of the start, of the latent's shape; zeros where the latent still has the noise of sigmas[0]; None where
    it is to be drawn from the seed. mask: 1 where to paint, 0 what to keep; any size, fitted to the latent. mask_at:
    what the mask, so fitted, is at a level: (sigma, mask) to a mask.
    """

    prediction: Prediction
    sampler: Sampler
    sigmas: Tensor
    seed: int
    noise: Tensor | None = None
    mask: Tensor | None = None
    mask_at: Callable[[Tensor, Tensor], Tensor] | None = None

    def run(self, denoise: Denoiser | Guided, latent: Tensor, *, on_step: OnStep = ignore) -> Tensor:
        """The latent after the walk. latent: (B, C, ...) float32 in the network's units; zeros for a new picture."""
        if len(self.sigmas) < 2:
            return latent
        path, sigmas = self.prediction.path, self.sampler.passed(self.sigmas.to(latent.device))
        first = initial(self.seed, latent) if self.noise is None else self.noise.to(latent)
        if self.mask is not None:
            fill = initial((self.seed + 1) % 2**64, latent) if self.sampler.own_fill else first
            denoise = Keeping(denoise, path, latent, fill, fit_mask(self.mask, latent), self.mask_at)
        start = self.prediction.start(first, latent, sigmas[0])
        x = self.sampler(
            denoise,
            start,
            sigmas,
            path=path,
            draw=stream(self.seed, start),
            between=self._bridge(start) if self.sampler.takes("between") else None,
            at=self.prediction.levels.at,
            on_step=on_step,
        )
        return self.prediction.end(x, sigmas[-1])

    def _bridge(self, x: Tensor) -> Between:
        levels = self.sigmas[self.sigmas > 0]
        like = x if self.sampler.on_device else x.cpu()
        bridge = Bridge(seed=self.seed, like=like, low=float(levels.min()), high=float(levels.max()))
        return lambda now, then: bridge(now, then).to(x.device)


@dataclass(frozen=True, slots=True)
class Keeping:
    """A denoiser that paints where the mask is 1, and holds the latent (under the right noise) where it is 0."""

    denoise: Denoiser | Guided
    path: Path
    latent: Tensor
    fill: Tensor
    mask: Tensor
    mask_at: Callable[[Tensor, Tensor], Tensor] | None = None

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        mask = self._mask(sigma)
        return self._kept(self.denoise(self._covered(x, sigma, mask), sigma), mask)

    def both(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        mask = self._mask(sigma)
        guided, unguided = self.denoise.both(self._covered(x, sigma, mask), sigma)  # type: ignore[union-attr]
        return self._kept(guided, mask), unguided

    def _mask(self, sigma: Tensor) -> Tensor:
        return self.mask if self.mask_at is None else self.mask_at(sigma, self.mask)

    def _covered(self, x: Tensor, sigma: Tensor, mask: Tensor) -> Tensor:
        return x * mask + self.path.noised(self.latent, self.fill, sigma) * (1 - mask)

    def _kept(self, clean: Tensor, mask: Tensor) -> Tensor:
        return clean * mask + self.latent * (1 - mask)


def fit_mask(mask: Tensor, latent: Tensor) -> Tensor:
    """A mask in the size of the latent, same device and dtype: (B or 1, 1, ...) for a latent (B, C, ...).

    mask: (H, W), (B, H, W) or (B, 1, H, W); for a latent with frames the B are its frames, unless it is
    (B, 1, frames, H, W); for sound (L,), (B, L) or (B, 1, L).
    """
    edges = latent.shape[2:]
    if len(edges) == 3 and mask.ndim < 5:
        mask = mask.reshape(1, 1, -1, *mask.shape[-2:])
    else:
        mask = mask.reshape(-1, 1, *mask.shape[-len(edges) :])
    mask = F.interpolate(mask.to(latent), size=edges, mode=SMOOTH[len(edges)])
    return mask if len(mask) == 1 else fit_batch(mask, len(latent))
