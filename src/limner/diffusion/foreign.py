"""adapted(): a `model_sampling` of a node pack's own, used as any other prediction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from limner.diffusion.denoiser import Prediction
from limner.diffusion.levels import Levels
from limner.diffusion.path import EXPLODING, Path, Straight
from limner.errors import UnfitInput

MEMBERS = (
    "sigmas", "sigma_min", "sigma_max", "timestep", "sigma", "percent_to_sigma", "calculate_input",
    "calculate_denoised", "noise_scaling",
)  # fmt: skip


def adapted(sampling: Any) -> Prediction:
    """A prediction as it is; an object with a pack's members as one. Raises UnfitInput, naming a member it lacks."""
    if isinstance(sampling, Prediction):
        return sampling
    missing = next((name for name in MEMBERS if not hasattr(sampling, name)), None)
    if missing is not None:
        raise UnfitInput(f"a model_sampling of the kind {type(sampling).__name__} has no member {missing}")
    return Foreign(ForeignLevels(sampling.sigmas, sampling), sampling)


@dataclass(frozen=True, slots=True, eq=False)
class ForeignLevels(Levels):
    """Levels that a pack's object names."""

    own: Any

    @property
    def low(self) -> float:
        return float(self.own.sigma_min)

    @property
    def high(self) -> float:
        return float(self.own.sigma_max)

    def sigma(self, timestep: Tensor) -> Tensor:
        return torch.as_tensor(self.own.sigma(timestep))

    def timestep(self, sigma: Tensor) -> Tensor:
        return torch.as_tensor(self.own.timestep(sigma))

    def at(self, done: float) -> float:
        return float(self.own.percent_to_sigma(done))


@dataclass(frozen=True, slots=True)
class Foreign(Prediction):
    """A pack's object, asked by the names that packs know."""

    own: Any

    @property
    def path(self) -> Path:
        """The straight one where half-way to noise half of the picture is left, else the exploding one."""
        half, one = torch.tensor([0.5]), torch.ones(1, 1)
        kept = float(self.own.noise_scaling(half, torch.zeros(1, 1), one, False))
        return Straight(first=self.levels.at(1e-4)) if abs(kept - 0.5) < 1e-3 else EXPLODING

    def network_input(self, x: Tensor, sigma: Tensor) -> Tensor:
        answer: Tensor = self.own.calculate_input(sigma.reshape(-1), x)
        return answer

    def clean(self, x: Tensor, output: Tensor, sigma: Tensor) -> Tensor:
        answer: Tensor = self.own.calculate_denoised(sigma.reshape(-1), output, x)
        return answer

    def begun(self, noise: Tensor, latent: Tensor, sigma: Tensor, *, whole: bool) -> Tensor:
        answer: Tensor = self.own.noise_scaling(sigma.reshape(-1), noise, latent, whole)
        return answer

    def end(self, x: Tensor, sigma: Tensor) -> Tensor:
        if not hasattr(self.own, "inverse_noise_scaling"):
            return x / self.path.kept(sigma)
        answer: Tensor = self.own.inverse_noise_scaling(sigma.reshape(-1), x)
        return answer
