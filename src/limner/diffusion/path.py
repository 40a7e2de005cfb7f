"""Paths: how picture and noise are mixed between a picture (level 0) and noise alone."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor


class Path(ABC):
    """x = kept(sigma) * picture + sigma * noise."""

    __slots__ = ()

    @abstractmethod
    def kept(self, sigma: Tensor) -> Tensor:
        """The share of the picture in x at this level."""

    @abstractmethod
    def split(self, now: Tensor, then: Tensor, eta: float) -> tuple[Tensor, Tensor, Tensor]:
        """How an ancestral step from `now` to `then` is walked: the level to go down to, x's factor and the noise's
        on the way back up. eta: 0 for a step without noise, 1 for as much as the diffusion had."""

    def noised(self, picture: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
        return self.kept(sigma) * picture + sigma * noise

    def ratio(self, sigma: Tensor) -> Tensor:
        """Noise to picture, exp(-lambda) in the words of Lu et al. 2022, arXiv:2211.01095: the level of x / kept."""
        return sigma / self.kept(sigma)

    @abstractmethod
    def level(self, ratio: Tensor) -> Tensor:
        """The inverse of `ratio`."""

    def middle(self, now: Tensor, then: Tensor) -> Tensor:
        """The level half-way between two, in the logarithm of the ratio."""
        return self.level((self.ratio(now) * self.ratio(then)).sqrt())

    def entered(self, sigmas: Tensor) -> Tensor:
        """The levels of a walk with a first one that still has a ratio."""
        return sigmas


@dataclass(frozen=True, slots=True)
class Exploding(Path):
    """All of the picture stays, noise is piled upon it. Song et al. 2021, arXiv:2011.13456, section 3.4 (VE)."""

    def kept(self, sigma: Tensor) -> Tensor:
        return torch.ones_like(sigma)

    def split(self, now: Tensor, then: Tensor, eta: float) -> tuple[Tensor, Tensor, Tensor]:
        """The split of Song et al. 2021, arXiv:2010.02502, equation 16."""
        down, up = split(now, then, eta)
        return down, torch.ones_like(then), up

    def ratio(self, sigma: Tensor) -> Tensor:
        return sigma

    def level(self, ratio: Tensor) -> Tensor:
        return ratio


@dataclass(frozen=True, slots=True)
class Straight(Path):
    """The picture goes as the noise comes. Lipman et al. 2023, arXiv:2210.02747; Liu et al. 2023, arXiv:2209.03003.

    first: a level just below 1, where samplers begin that cannot divide by a picture that is not there.
    """

    first: float = 0.9999

    def kept(self, sigma: Tensor) -> Tensor:
        return 1 - sigma

    def split(self, now: Tensor, then: Tensor, eta: float) -> tuple[Tensor, Tensor, Tensor]:
        """Down by a share of the step again; then scaled so that the picture fits level `then`, and noise added."""
        down = then * (1 + (then / now - 1) * eta)
        scale = (1 - then) / (1 - down)
        up = (then**2 - (down * scale) ** 2).clamp(min=0).sqrt()
        return down, scale, up

    def level(self, ratio: Tensor) -> Tensor:
        return torch.where(ratio.isinf(), torch.ones_like(ratio), ratio / (1 + ratio))

    def middle(self, now: Tensor, then: Tensor) -> Tensor:
        return now.new_tensor(0.9999) if now == 1 else Path.middle(self, now, then)

    def entered(self, sigmas: Tensor) -> Tensor:
        if len(sigmas) < 2 or sigmas[0] < 1:
            return sigmas
        return torch.cat([sigmas.new_tensor([self.first]), sigmas[1:]])


EXPLODING = Exploding()


def split(now: Tensor, then: Tensor, eta: float = 1.0) -> tuple[Tensor, Tensor]:
    """How far to go down, and how much noise to add, so that a step from `now` ends at level `then`."""
    up = torch.minimum(then, eta * then * (1 - (then / now) ** 2).clamp(min=0).sqrt())
    return (then**2 - up**2).sqrt(), up
