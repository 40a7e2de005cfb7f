"""DPM-Solver++: samplers that solve for the picture, in time -log sigma. Lu et al. 2022, arXiv:2211.01095."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from limner.diffusion.denoiser import Both, Denoiser
from limner.diffusion.noise import Draw
from limner.diffusion.path import Path, split
from limner.diffusion.samplers.base import OnStep, ignore, sampler, towards


@sampler("dpmpp_2s_ancestral", order=2)
def dpmpp_2s_ancestral(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    *,
    path: Path,
    draw: Draw,
    eta: float = 1.0,
    noise_scale: float = 1.0,
    on_step: OnStep = ignore,
) -> Tensor:
    """Second-order sampler that looks ahead to the middle of each step, and adds fresh noise at its end.

    All as for `euler_ancestral`. Lu et al. 2022, algorithm 1. Calls denoise 2N - 1 times where the last sigma is 0.
    """
    for step, (now, then) in enumerate(pairwise(sigmas)):
        clean = ahead = denoise(x, now)
        down, scale, up = path.split(now, then, eta)
        if down > 0:
            middle = path.middle(now, down)
            ahead = denoise(towards(clean, x, now, middle), middle)
        x = towards(ahead, x, now, down)
        if then > 0 and eta > 0:
            x = scale * x + draw() * up * noise_scale
        on_step(step, clean)
    return x


@sampler("dpmpp_2s_ancestral_cfg_pp", order=0)
def dpmpp_2s_ancestral_cfg_pp(
    both: Both,
    x: Tensor,
    sigmas: Tensor,
    *,
    draw: Draw,
    eta: float = 1.0,
    noise_scale: float = 1.0,
    on_step: OnStep = ignore,
) -> Tensor:
    """`dpmpp_2s_ancestral` that covers the guided picture with the noise which is expected without guidance.

    All as for `dpmpp_2s_ancestral`. Chung et al. 2024 (CFG++), arXiv:2406.08070: the noise of x is counted from the
    unguided picture, but on the second half of a step from that of its middle, as this sampler is known. So it does not
    come to the exact path with more steps. Calls both 2N - 1 times where the last sigma is 0.
    """
    for step, (now, then) in enumerate(pairwise(sigmas)):
        clean, unguided = both(x, now)
        down, up = split(now, then, eta)
        if down == 0:
            x = clean
        else:
            middle = (now * down).sqrt()
            ahead, unguided = both(towards(clean, x + (clean - unguided), now, middle), middle)
            x = towards(ahead, x + (clean - unguided), now, down)
        if then > 0 and eta > 0:
            x = x + draw() * up * noise_scale
        on_step(step, clean)
    return x


@sampler("dpmpp_2m", order=2)
def dpmpp_2m(denoise: Denoiser, x: Tensor, sigmas: Tensor, *, on_step: OnStep = ignore) -> Tensor:
    """Deterministic second-order sampler that learns the curve from the step before.

    x and sigmas as for `euler`. Lu et al. 2022, algorithm 2, in sigma space. The first step, and one that ends at 0,
    are of first order. Calls denoise N times.
    """
    before: tuple[Tensor, Tensor] | None = None  # the last step's clean x and its length in time
    for step, (now, then) in enumerate(pairwise(sigmas)):
        clean = denoise(x, now)
        length = (now / then).log()
        ahead = clean
        if before is not None and then > 0:
            ahead = clean + (clean - before[0]) * length / (2 * before[1])
        x = towards(ahead, x, now, then)
        before = clean, length
        on_step(step, clean)
    return x


@sampler("dpmpp_2m_cfg_pp", order=2)
def dpmpp_2m_cfg_pp(both: Both, x: Tensor, sigmas: Tensor, *, on_step: OnStep = ignore) -> Tensor:
    """`dpmpp_2m` that covers the guided picture with the noise which is expected without guidance.

    x and sigmas as for `euler`. Chung et al. 2024 (CFG++), arXiv:2406.08070: the noise of x is counted from the
    unguided picture, and so is the curve. Calls both N times.
    """
    before: tuple[Tensor, Tensor] | None = None  # the last step's unguided clean x and its length in time
    for step, (now, then) in enumerate(pairwise(sigmas)):
        clean, unguided = both(x, now)
        length = (now / then).log()
        x = clean + (x - unguided) * (then / now)
        if before is not None and then > 0:
            x = x - torch.expm1(-length) * (clean - before[0]) * length / (2 * before[1])
        before = unguided, length
        on_step(step, clean)
    return x
