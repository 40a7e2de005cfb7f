"""SA-Solver: an Adams method, predictor and corrector, for the reverse SDE. Xue et al. 2023, arXiv:2309.05019."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from limner.diffusion.denoiser import Denoiser
from limner.diffusion.noise import Draw
from limner.diffusion.samplers.base import At, OnStep, also, ignore, sampler


@sampler("sa_solver", order=4, exploding=True)
def sa_solver(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    *,
    draw: Draw,
    at: At,
    eta: float = 1.0,
    noise_from: float = 0.2,
    noise_to: float = 0.8,
    noise_scale: float = 1.0,
    predictor: int = 3,
    corrector: int = 4,
    again: bool = False,
    simple: bool = False,
    on_step: OnStep = ignore,
) -> Tensor:
    """Sampler that predicts each step from the last clean x's, and corrects it once it has seen where it led.

    x, sigmas and draw as for `euler_ancestral`. at: finds the levels between which noise is added, the parts noise_from
    and noise_to of the whole way down. eta: how much. predictor, corrector: how many clean x's they go by; the
    corrector may be 0. again: the corrected x is looked at anew (PECE). simple: two clean x's are weighed as at the
    middle of the step. Xue et al. 2023, algorithm 1. Calls denoise N times, 2N - 1 with `again`.
    """
    high, low = at(noise_from), at(noise_to)
    known: list[_Known] = []  # the newest first
    settled, noise = x, torch.zeros_like(x)
    for step, (now, then) in enumerate(pairwise(sigmas)):
        clean = denoise(x, now)
        known = [(float(now), clean), *known][: max(predictor, corrector)]
        left = len(sigmas) - 2 - step if sigmas[-1] == 0 else len(sigmas)  # the last steps before 0 are of lower order
        if step > 0 and corrector > 0:
            tau = eta if low <= now <= high else 0.0
            settled = _step(settled, sigmas[step - 1], now, known[: min(corrector, left + 1)], tau, simple) + noise
            if again:
                known[0] = float(now), denoise(settled, now)
        else:
            settled = x
        if then == 0:
            x = known[0][1]
        else:
            tau = eta if low <= then <= high else 0.0
            if tau > 0:
                noise = draw() * then * (-torch.expm1(2 * tau**2 * (then / now).log())).sqrt() * noise_scale
            else:
                noise = torch.zeros_like(x)
            x = _step(settled, now, then, known[: min(predictor, left)], tau, simple) + noise
        on_step(step, clean)
    return x


also(sa_solver, "sa_solver_pece", again=True)

_Known = tuple[float, Tensor]
"""A level, and the clean x that was expected there."""


def _step(x: Tensor, now: Tensor, then: Tensor, known: Sequence[_Known], tau: float, simple: bool) -> Tensor:
    """x at `then`, with the clean x as the polynomial through the known ones, in time -log sigma. Equation 14."""
    rate, length = 1 + tau**2, math.log(now / then)
    times = [math.log(then / level) for level, _ in known]  # 0 is the end of the step
    shares = _shares(times, rate, length)
    if simple and len(times) == 2:
        swapped = rate * length**2 / 2 - (rate * length + math.expm1(-rate * length)) / rate
        shares = [shares[0] + swapped / (times[0] - times[1]), shares[1] - swapped / (times[0] - times[1])]
    mean = sum((share * clean for share, (_, clean) in zip(shares, known, strict=True)), torch.zeros_like(x))
    return (then / now) ** rate * x + mean


def _shares(times: Sequence[float], rate: float, length: float) -> list[float]:
    """The integral over -length..0 of rate * e^(rate * t) times each polynomial that is 1 at one time, 0 at others."""
    faded = math.exp(-rate * length)
    moments = [1 - faded]  # of t^0, t^1, ...
    for power in range(1, len(times)):
        moments.append(-((-length) ** power) * faded - power / rate * moments[-1])
    powers = [[time**power for time in times] for power in range(len(times))]
    shares: list[float] = np.linalg.solve(powers, moments).tolist()
    return shares
