"""Levels: the noise levels that a network was trained at."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Levels:
    """A table of sigmas: row t is the noise level of timestep t. Rising, (T,) float32.

    Between two rows log sigma is taken as linear in the timestep.
    """

    table: Tensor

    def __len__(self) -> int:
        return len(self.table)

    @property
    def low(self) -> float:
        return float(self.table[0])

    @property
    def high(self) -> float:
        return float(self.table[-1])

    def sigma(self, timestep: Tensor) -> Tensor:
        """The noise level of whole or fractional timesteps, clipped to the table's ends."""
        log = self.table.log()
        place = timestep.float().clamp(0, len(self) - 1)
        below, above, part = place.floor().long(), place.ceil().long(), place.frac()
        return ((1 - part) * log[below] + part * log[above]).exp()

    def timestep(self, sigma: Tensor) -> Tensor:
        """The row whose log sigma lies nearest, for each given level."""
        log = self.table.log().to(sigma.device)
        return (sigma.float().log().reshape(-1, 1) - log).abs().argmin(dim=1).reshape(sigma.shape)


def scaled_linear(low: float, high: float, *, steps: int) -> Levels:
    """The levels of a network whose betas rise linearly in their square root, from `low` to `high`.

    sigma² = (1 - a) / a, with a the running product of 1 - beta. Rombach et al. 2022, arXiv:2112.10752.
    """
    betas = torch.linspace(math.sqrt(low), math.sqrt(high), steps, dtype=torch.float64) ** 2
    kept = (1 - betas).cumprod(dim=0)
    return Levels(((1 - kept) / kept).sqrt().float())
