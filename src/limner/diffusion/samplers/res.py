"""RES: exponential integrators that learn the curve from the step before. Zhang et al. 2023, arXiv:2308.02157."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from limner.diffusion.denoiser import Both, Denoiser
from limner.diffusion.noise import Draw
from limner.diffusion.path import split
from limner.diffusion.samplers.base import OnStep, ignore, sampler, towards


@sampler("res_multistep", order=2)
def res_multistep(denoise: Denoiser, x: Tensor, sigmas: Tensor, *, on_step: OnStep = ignore) -> Tensor:
    """Deterministic second-order sampler that integrates the curve it learned from the step before.

    x and sigmas as for `euler`. The multistep form, in time -log sigma. The first step, and one that ends at 0, are of
    first order. Calls denoise N times.
    """
    return _walk(lambda x, sigma: 2 * (denoise(x, sigma),), x, sigmas, None, 0.0, 1.0, on_step)


@sampler("res_multistep_cfg_pp", order=2)
def res_multistep_cfg_pp(both: Both, x: Tensor, sigmas: Tensor, *, on_step: OnStep = ignore) -> Tensor:
    """`res_multistep` that covers the guided picture with the noise which is expected without guidance.

    x and sigmas as for `euler`. Chung et al. 2024 (CFG++), arXiv:2406.08070. Calls both N times.
    """
    return _walk(both, x, sigmas, None, 0.0, 1.0, on_step)


@sampler("res_multistep_ancestral", order=2)
def res_multistep_ancestral(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    *,
    draw: Draw,
    eta: float = 1.0,
    noise_scale: float = 1.0,
    on_step: OnStep = ignore,
) -> Tensor:
    """`res_multistep` that goes a little too far down at each step, and adds fresh noise to come back up.

    All as for `euler_ancestral`. Calls denoise N times.
    """
    return _walk(lambda x, sigma: 2 * (denoise(x, sigma),), x, sigmas, draw, eta, noise_scale, on_step)


@sampler("res_multistep_ancestral_cfg_pp", order=2)
def res_multistep_ancestral_cfg_pp(
    both: Both,
    x: Tensor,
    sigmas: Tensor,
    *,
    draw: Draw,
    eta: float = 1.0,
    noise_scale: float = 1.0,
    on_step: OnStep = ignore,
) -> Tensor:
    """`res_multistep_cfg_pp` with the noise of `res_multistep_ancestral`.

    All as for those. Calls both N times.
    """
    return _walk(both, x, sigmas, draw, eta, noise_scale, on_step)


def _walk(
    both: Both, x: Tensor, sigmas: Tensor, draw: Draw | None, eta: float, noise_scale: float, on_step: OnStep
) -> Tensor:
    """The walk of all four: where the two answers are one, there is no guidance to mind."""
    before: tuple[Tensor, Tensor] | None = None  # the last step's unguided clean x and its length in time
    for step, (now, then) in enumerate(pairwise(sigmas)):
        clean, unguided = both(x, now)
        down, up = split(now, then, eta) if draw is not None else (then, then)
        length = (now / down).log()
        moved = x + (clean - unguided)
        if before is None or down == 0:
            x = towards(clean, moved, now, down)
        else:
            first = -torch.expm1(-length) / length
            second = (1 - first) / before[1]
            x = moved * down / now + length * ((first + second) * unguided - second * before[0])
        if draw is not None and then > 0 and eta > 0:
            x = x + draw() * up * noise_scale
        before = unguided, length
        on_step(step, clean)
    return x
