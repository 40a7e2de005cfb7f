"""Denoiser, and what a network predicts: the noise (epsilon) or the velocity (v)."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from limner.diffusion.levels import Levels

Denoiser = Callable[[Tensor, Tensor], Tensor]
"""(x at level sigma, sigma) to the clean x that is expected behind it."""


@dataclass(frozen=True, slots=True)
class Prediction(ABC):
    """How a network trained to keep the variance is used in sigma space, where x = clean + sigma * noise."""

    levels: Levels

    def network_input(self, x: Tensor, sigma: Tensor) -> Tensor:
        """x scaled to unit variance, as the network was trained on it. Karras et al. 2022, arXiv:2206.00364, c_in."""
        return x / (sigma**2 + 1).sqrt()

    @abstractmethod
    def clean(self, x: Tensor, output: Tensor, sigma: Tensor) -> Tensor:
        """The clean x that the network's output means."""

    def start(self, noise: Tensor, latent: Tensor, sigma: Tensor) -> Tensor:
        """Where a walk begins: the latent under noise of level sigma.

        At the highest level a network expects pure noise of the variance it was trained on, a little above sigma².
        """
        at_the_top = float(sigma) > self.levels.high or math.isclose(float(sigma), self.levels.high, rel_tol=1e-5)
        return latent + noise * ((sigma**2 + 1).sqrt() if at_the_top else sigma)


class Epsilon(Prediction):
    """The network tells the noise. Ho et al. 2020, arXiv:2006.11239."""

    __slots__ = ()

    def clean(self, x: Tensor, output: Tensor, sigma: Tensor) -> Tensor:
        return x - output * sigma


class Velocity(Prediction):
    """The network tells v, a mix of noise and picture. Salimans and Ho 2022, arXiv:2202.00512, appendix D."""

    __slots__ = ()

    def clean(self, x: Tensor, output: Tensor, sigma: Tensor) -> Tensor:
        return x / (sigma**2 + 1) - output * sigma / (sigma**2 + 1).sqrt()
