"""Schedules: which noise levels a walk passes, a function each. `SCHEDULES` has them by name."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from limner.diffusion import ranges
from limner.diffusion.levels import Levels
from limner.diffusion.ranges import ended

Schedule = Callable[[Levels, int], Tensor]

SCHEDULES: dict[str, Schedule] = {}


def schedule(name: str) -> Callable[[Schedule], Schedule]:
    """Enters a function into `SCHEDULES`. It gets the network's levels and a number of steps, 1 or more.

    It returns falling sigmas, usually steps + 1 of them, the last 0.
    """

    def enter(function: Schedule) -> Schedule:
        SCHEDULES[name] = function
        return function

    return enter


def sigmas(name: str, levels: Levels, steps: int, *, denoise: float = 1.0, skip_next_to_last: bool = False) -> Tensor:
    """The levels of a walk of `steps` steps: falling float32, the last 0; empty where `denoise` is 0.

    denoise: the part of the whole schedule to walk, 0..1. Below 1 the walk starts lower, with as many steps.
    skip_next_to_last: leaves out the last level above 0, for samplers that step badly from it to 0.
    """
    if denoise <= 0:
        return torch.empty(0)
    whole = steps if denoise > 0.9999 else int(steps / denoise)
    if skip_next_to_last:
        levels_passed = SCHEDULES[name](levels, whole + 1)
        levels_passed = torch.cat([levels_passed[:-2], levels_passed[-1:]])
    else:
        levels_passed = SCHEDULES[name](levels, whole)
    return levels_passed if denoise > 0.9999 else levels_passed[-(steps + 1) :]


def section(sigmas: Tensor, start: int = 0, end: int | None = None, *, leftover: bool = False) -> Tensor:
    """The levels of the steps from number `start` up to, and without, number `end`; empty where none is left.

    leftover: a walk that ends early keeps the noise of its last level; else it takes that step down to 0.
    """
    if end is not None and end < len(sigmas) - 1:
        sigmas = sigmas[: end + 1].clone()
        if not leftover and len(sigmas) > 0:
            sigmas[-1] = 0
    return sigmas[start:] if start < len(sigmas) - 1 else sigmas[:0]


@schedule("simple")
def simple(levels: Levels, steps: int) -> Tensor:
    """Every (T / steps)-th row of the table, from the top."""
    stride = len(levels) / steps
    return ended(levels.table[[-(1 + int(step * stride)) for step in range(steps)]])


@schedule("sgm_uniform")
def sgm_uniform(levels: Levels, steps: int) -> Tensor:
    """Evenly spaced timesteps, as `normal`, but the lowest level is left out."""
    return ended(levels.sigma(_timesteps(levels, steps + 1)[:-1]))


@schedule("karras")
def karras(levels: Levels, steps: int) -> Tensor:
    """Even in sigma^(1/7). Karras et al. 2022, arXiv:2206.00364, equation 5 with rho 7."""
    return ranges.karras(steps, levels.low, levels.high)


@schedule("exponential")
def exponential(levels: Levels, steps: int) -> Tensor:
    """Even in log sigma."""
    return ranges.exponential(steps, levels.low, levels.high)


@schedule("ddim_uniform")
def ddim_uniform(levels: Levels, steps: int) -> Tensor:
    """Every (T // steps)-th row of the table from the bottom; may have more levels than asked for.

    Song et al. 2021, arXiv:2010.02502, appendix D.
    """
    return ended(levels.table[1 :: max(len(levels) // steps, 1)].flip(0))


@schedule("beta")
def beta(levels: Levels, steps: int) -> Tensor:
    """Timesteps dense at both ends, spread as the beta distribution with both shapes 0.6."""
    return ranges.beta(levels, steps)


@schedule("normal")
def normal(levels: Levels, steps: int) -> Tensor:
    """Evenly spaced timesteps between the table's ends."""
    return ended(levels.sigma(_timesteps(levels, steps)))


@schedule("linear_quadratic")
def linear_quadratic(levels: Levels, steps: int) -> Tensor:
    """Half of the steps cover the first fortieth of the range evenly, the others the rest in growing strides.

    Polyak et al. 2024 (Movie Gen), arXiv:2410.13720, section 3.4.3.
    """
    if steps == 1:
        return ended(torch.tensor([levels.high]))
    even, small = steps // 2, 0.025
    rest = steps - even
    slope_change = even - small * steps
    square = slope_change / (even * rest**2)
    slope = small / even - 2 * slope_change / rest**2
    offset = square * even**2
    done = [small * step / even for step in range(even)]
    done += [square * step**2 + slope * step + offset for step in range(even, steps)]
    return ended((1 - torch.tensor(done, dtype=torch.float64)) * levels.high)


@schedule("kl_optimal")
def kl_optimal(levels: Levels, steps: int) -> Tensor:
    """Even in the arc tangent of sigma. Sabour et al. 2024 (Align Your Steps), arXiv:2404.14507, section 3.1."""
    ramp = torch.linspace(0, 1, steps)
    return ended((ramp * math.atan(levels.low) + (1 - ramp) * math.atan(levels.high)).tan())


def _timesteps(levels: Levels, count: int) -> Tensor:
    ends = levels.timestep(torch.tensor([levels.high, levels.low]))
    return torch.linspace(float(ends[0]), float(ends[1]), count)
