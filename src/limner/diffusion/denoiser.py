"""Denoiser, and what a network predicts: the noise (epsilon), the velocity (v), the flow."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from limner.diffusion.known import KnownPrediction
from limner.diffusion.levels import Levels
from limner.diffusion.path import EXPLODING, Path, Straight

Denoiser = Callable[[Tensor, Tensor], Tensor]
"""(x at level sigma, sigma) to the clean x that is expected behind it."""

Both = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""(x, sigma) to the clean x that guidance leads to, and the one that is expected without guidance."""


class Guided(Protocol):
    """A denoiser that can also tell what it would expect without guidance."""

    def __call__(self, x: Tensor, sigma: Tensor, /) -> Tensor: ...

    def both(self, x: Tensor, sigma: Tensor, /) -> tuple[Tensor, Tensor]:
        """The answer, and the unconditional one."""


@dataclass(frozen=True, slots=True)
class Prediction(KnownPrediction, ABC):
    """How a network is used in sigma space: what it is given, and what its output means.

    Here: a network trained to keep the variance, where x = clean + sigma * noise.
    """

    levels: Levels

    @property
    def path(self) -> Path:
        return EXPLODING

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
        return self.begun(noise, latent, sigma, whole=at_the_top)

    def begun(self, noise: Tensor, latent: Tensor, sigma: Tensor, *, whole: bool) -> Tensor:
        """The same where it is told whether the walk begins at the highest level."""
        return latent + noise * ((sigma**2 + 1).sqrt() if whole else sigma)

    def end(self, x: Tensor, sigma: Tensor) -> Tensor:
        """The latent that a walk which stopped at level sigma hands on; `start` without noise takes it up again."""
        return x / self.path.kept(sigma)


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


@dataclass(frozen=True, slots=True)
class Edm(Prediction):
    """The network tells a mix that has unit variance for pictures of this spread. Karras et al. 2022, table 1."""

    spread: float = 0.5

    def network_input(self, x: Tensor, sigma: Tensor) -> Tensor:
        return x / (sigma**2 + self.spread**2).sqrt()

    def clean(self, x: Tensor, output: Tensor, sigma: Tensor) -> Tensor:
        total = sigma**2 + self.spread**2
        return x * self.spread**2 / total + output * sigma * self.spread / total.sqrt()


class Flow(Prediction):
    """The network tells which way x moves, noise minus picture, where x = (1 - sigma) * clean + sigma * noise.

    Lipman et al. 2023, arXiv:2210.02747; Liu et al. 2023, arXiv:2209.03003.
    """

    __slots__ = ()

    @property
    def path(self) -> Path:
        return Straight(first=self.levels.at(1e-4))

    def network_input(self, x: Tensor, sigma: Tensor) -> Tensor:  # noqa: ARG002 - x has much the same variance at any
        return x

    def clean(self, x: Tensor, output: Tensor, sigma: Tensor) -> Tensor:
        return x - output * sigma

    def begun(self, noise: Tensor, latent: Tensor, sigma: Tensor, *, whole: bool) -> Tensor:  # noqa: ARG002
        return self.path.noised(latent, noise, sigma)


class Clean(Prediction):
    """The network tells the clean picture."""

    __slots__ = ()

    def clean(self, x: Tensor, output: Tensor, sigma: Tensor) -> Tensor:  # noqa: ARG002
        return output


class Restored(Clean):
    """The network gets a picture as it is and tells a better one."""

    __slots__ = ()

    def network_input(self, x: Tensor, sigma: Tensor) -> Tensor:  # noqa: ARG002
        return x


class Consistency(Epsilon):
    """The network tells the noise, and is trained to jump to the end from anywhere; near the end x counts itself.

    Luo et al. 2023 (LCM), arXiv:2310.04378, appendix D: sigma_data 0.5, timesteps scaled by 10.
    """

    __slots__ = ()

    def clean(self, x: Tensor, output: Tensor, sigma: Tensor) -> Tensor:
        time = self.levels.timestep(sigma) * 10.0
        spread = 0.5**2
        skip, out = spread / (time**2 + spread), time / (time**2 + spread).sqrt()
        return out * super().clean(x, output, sigma) + skip * x


class CosmosFlow(Prediction):
    """A flow over any levels: at level s the network sees x / (1 + s), which lies s / (1 + s) of the way to noise."""

    __slots__ = ()

    def network_input(self, x: Tensor, sigma: Tensor) -> Tensor:
        return x / (1 + sigma)

    def clean(self, x: Tensor, output: Tensor, sigma: Tensor) -> Tensor:
        return (x - output * sigma) / (1 + sigma)

    def begun(self, noise: Tensor, latent: Tensor, sigma: Tensor, *, whole: bool) -> Tensor:  # noqa: ARG002
        return self.path.noised(latent, noise, sigma)
