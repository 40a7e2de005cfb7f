"""DPM-Solver++ for the reverse SDE: samplers that solve for the picture, and walk along a Brownian motion.

Lu et al. 2022, arXiv:2211.01095, section 5, in time -log sigma. eta: how much noise is added, 1 as much as the
diffusion had, 0 none; noise_scale: its standard deviation. `between` gives the noise of a step.
"""

from __future__ import annotations

from collections import deque
from itertools import pairwise

import torch
from torch import Tensor

from limner.diffusion.denoiser import Denoiser
from limner.diffusion.noise import Between
from limner.diffusion.path import split
from limner.diffusion.samplers.base import OnStep, also, ignore, sampler, towards


@sampler("dpmpp_sde", order=2, exploding=True)
def dpmpp_sde(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    *,
    between: Between,
    eta: float = 1.0,
    noise_scale: float = 1.0,
    r: float = 0.5,
    on_step: OnStep = ignore,
) -> Tensor:
    """Second-order sampler that looks ahead to a place within each step.

    x and sigmas as for `euler`. r: that place, 0..1. Calls denoise 2N - 1 times where the last sigma is 0.
    """
    for step, (now, then) in enumerate(pairwise(sigmas)):
        clean = denoise(x, now)
        if then == 0:
            x = clean
        else:
            middle = now ** (1 - r) * then**r
            down, up = split(now, middle, eta)
            ahead = towards(clean, x, now, down) + between(now, middle) * up * noise_scale
            mean = torch.lerp(clean, denoise(ahead, middle), 1 / (2 * r))
            down, up = split(now, then, eta)
            x = towards(mean, x, now, down) + between(now, then) * up * noise_scale
        on_step(step, clean)
    return x


@sampler("dpmpp_2m_sde", order=2, exploding=True)
def dpmpp_2m_sde(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    *,
    between: Between,
    eta: float = 1.0,
    noise_scale: float = 1.0,
    heun: bool = False,
    on_step: OnStep = ignore,
) -> Tensor:
    """Second-order sampler that learns the curve from the step before.

    x and sigmas as for `euler`. heun: the curve counts as its integral says, else as at the middle of the step. The
    first step is of first order. Calls denoise N times.
    """
    before: tuple[Tensor, Tensor] | None = None  # the last step's clean x and its length in time
    for step, (now, then) in enumerate(pairwise(sigmas)):
        clean = denoise(x, now)
        if then == 0:
            x = clean
        else:
            length = (now / then).log()
            whole = length * (1 + eta)
            x = towards(clean, x, now, then * (-eta * length).exp())
            if before is not None:
                bend = (clean - before[0]) * length / before[1]
                x = x + bend * (_second(whole) if heun else -torch.expm1(-whole) / 2)
            x = x + _noise(between, now, then, eta) * noise_scale
            before = clean, length
        on_step(step, clean)
    return x


@sampler("dpmpp_3m_sde", order=2, exploding=True)
def dpmpp_3m_sde(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    *,
    between: Between,
    eta: float = 1.0,
    noise_scale: float = 1.0,
    on_step: OnStep = ignore,
) -> Tensor:
    """Sampler that learns the curve from the two steps before.

    x and sigmas as for `euler`. The first steps have less to go by, which holds its order down. Calls denoise N times.
    """
    passed: deque[tuple[Tensor, Tensor]] = deque(maxlen=2)  # clean x and length of the last steps, the newest first
    for step, (now, then) in enumerate(pairwise(sigmas)):
        clean = denoise(x, now)
        if then == 0:
            x = clean
        else:
            length = (now / then).log()
            whole = length * (1 + eta)
            x = towards(clean, x, now, then * (-eta * length).exp())
            x = x + _curve(clean, passed, length, whole) + _noise(between, now, then, eta) * noise_scale
            passed.appendleft((clean, length))
        on_step(step, clean)
    return x


also(dpmpp_sde, "dpmpp_sde_gpu", on_device=True)
also(dpmpp_2m_sde, "dpmpp_2m_sde_gpu", on_device=True)
dpmpp_2m_sde_heun = also(dpmpp_2m_sde, "dpmpp_2m_sde_heun", heun=True)
also(dpmpp_2m_sde_heun, "dpmpp_2m_sde_heun_gpu", on_device=True)
also(dpmpp_3m_sde, "dpmpp_3m_sde_gpu", on_device=True)


def _curve(clean: Tensor, passed: deque[tuple[Tensor, Tensor]], length: Tensor, whole: Tensor) -> Tensor:
    """What the first and second change of clean x add to a step of this length."""
    if not passed:
        return torch.zeros_like(clean)
    before, walked = passed[0]
    bend = (clean - before) * length / walked
    if len(passed) == 1:
        return _second(whole) * bend
    further, walked_before = passed[1]
    earlier = (before - further) * length / walked_before
    twist = (bend - earlier) * length / (walked + walked_before)
    return _second(whole) * (bend + twist * walked / length) - (_second(whole) / whole - 0.5) * twist


def _second(length: Tensor) -> Tensor:
    """The second exponential function at -length, (e^-h - 1) / h + 1: how far a bend carries x."""
    return torch.expm1(-length) / length + 1


def _noise(between: Between, now: Tensor, then: Tensor, eta: float) -> Tensor | float:
    if eta == 0:
        return 0.0
    return between(now, then) * then * (-torch.expm1(2 * eta * (then / now).log())).sqrt()
