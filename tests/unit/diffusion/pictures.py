"""Pictures whose every denoiser is known: draws from a normal distribution."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from limner.diffusion.path import EXPLODING, Path


@dataclass
class Normal:
    """A denoiser of data from N(mean, spread²), Tweedie's formula; without guidance from N(unguided, spread²).

    It keeps the levels at which it was asked.
    """

    mean: Tensor
    spread: float
    path: Path = EXPLODING
    unguided: Tensor | None = None
    asked: list[float] = field(default_factory=list)

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        self.asked.append(float(sigma))
        return self._clean(x, sigma, self.mean)

    def both(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        return self(x, sigma), self._clean(x, sigma, self.mean if self.unguided is None else self.unguided)

    def _clean(self, x: Tensor, sigma: Tensor, mean: Tensor) -> Tensor:
        kept, variance = self.path.kept(sigma), self.spread**2
        return mean + kept * variance / (kept**2 * variance + sigma**2) * (x - kept * mean)

    def exact(self, x: Tensor, sigma: Tensor, then: Tensor) -> Tensor:
        """Where the exact path leads from x at level sigma: as many standard deviations from the mean as before."""
        return self.path.kept(then) * self.mean + (x - self.path.kept(sigma) * self.mean) * (
            self.deviation(then) / self.deviation(sigma)
        )

    def deviation(self, sigma: Tensor) -> Tensor:
        return ((self.path.kept(sigma) * self.spread) ** 2 + sigma**2).sqrt()

    def noisy(self, sigma: Tensor, generator: torch.Generator) -> Tensor:
        noise = torch.randn(self.mean.shape, generator=generator, dtype=self.mean.dtype)
        return self.path.kept(sigma) * self.mean + self.deviation(sigma) * noise


def noise_between(like: Tensor, seed: int) -> Callable[[Tensor, Tensor], Tensor]:
    """The same noise for the same two levels, whoever asks and in whatever order."""

    def draw(now: Tensor, then: Tensor) -> Tensor:
        key = hash((seed, round(float(now), 9), round(float(then), 9))) % 2**63
        return torch.randn(like.shape, generator=torch.Generator().manual_seed(key), dtype=like.dtype)

    return draw


def noise_in_turn(like: Tensor, seed: int) -> Callable[[], Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return lambda: torch.randn(like.shape, generator=generator, dtype=like.dtype)
