"""Schedules between levels that are told, whatever the network's own: falling sigmas, the last 0."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from limner.diffusion.beta import quantiles
from limner.diffusion.levels import Levels


def karras(steps: int, low: float, high: float, rho: float = 7.0) -> Tensor:
    """Even in sigma^(1/rho). Karras et al. 2022, arXiv:2206.00364, equation 5."""
    ramp = torch.linspace(0, 1, steps)
    top, bottom = high ** (1 / rho), low ** (1 / rho)
    return ended((top + ramp * (bottom - top)) ** rho)


def exponential(steps: int, low: float, high: float) -> Tensor:
    """Even in log sigma. low: above 0."""
    return ended(torch.linspace(math.log(high), math.log(low), steps).exp())


def polyexponential(steps: int, low: float, high: float, rho: float = 1.0) -> Tensor:
    """Even in log sigma where rho is 1; below it more steps are at high levels, above it at low ones. low: above 0."""
    ramp = torch.linspace(1, 0, steps) ** rho
    return ended((ramp * (math.log(high) - math.log(low)) + math.log(low)).exp())


def laplace(steps: int, low: float, high: float, mu: float = 0.0, beta: float = 0.5) -> Tensor:
    """Dense about log sigma = mu, by a Laplace distribution of the width beta. It ends at its lowest level, not at 0.

    Hang et al. 2024, arXiv:2407.03297, section 3.
    """
    share = torch.linspace(0, 1, steps)
    log = mu - beta * (0.5 - share).sign() * (1 - 2 * (0.5 - share).abs() + 1e-5).log()
    return log.exp().clamp(low, high)


def variance_preserving(steps: int, beta_d: float = 19.9, beta_min: float = 0.1, end: float = 1e-3) -> Tensor:
    """The levels of a diffusion whose beta rises by beta_d from beta_min, at even times from 1 down to `end`.

    Song et al. 2021, arXiv:2011.13456, appendix C.
    """
    time = torch.linspace(1, end, steps)
    return ended((beta_d * time**2 / 2 + beta_min * time).expm1().sqrt())


def turbo(levels: Levels, steps: int, denoise: float = 1.0) -> Tensor:
    """Up to ten steps at timesteps 999, 899, ... 99, the ones that distilled networks were trained at.

    Sauer et al. 2023 (ADD), arXiv:2311.17042. denoise: the part of these ten to walk; at 0.5 it begins at 499.
    """
    first = 10 - int(10 * denoise)
    timesteps = torch.arange(10, 0, -1) * 100 - 1
    return ended(levels.sigma(timesteps[first : first + steps].float()))


def beta(levels: Levels, steps: int, a: float = 0.6, b: float = 0.6) -> Tensor:
    """Rows of the table, spread as the beta distribution with these shapes; equal ones count once.

    Lee et al. 2024, arXiv:2407.12173, section 4.
    """
    places = quantiles(1 - torch.arange(steps, dtype=torch.float64) / steps, a, b)
    rows = (places * (len(levels) - 1)).round(decimals=6).round().long()  # the middle lies between two rows, exactly
    return ended(levels.table[list(dict.fromkeys(rows.tolist()))])


def ended(sigmas: Tensor) -> Tensor:
    """The levels with a 0 behind them, float32."""
    return torch.cat([sigmas.float(), torch.zeros(1)])
