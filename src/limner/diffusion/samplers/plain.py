"""Samplers that jump to the expected picture, and cover it with less noise."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor

from limner.diffusion.denoiser import Denoiser
from limner.diffusion.noise import Draw
from limner.diffusion.path import Path
from limner.diffusion.samplers.base import OnStep, ignore, sampler


@sampler("ddpm", order=1)
def ddpm(denoise: Denoiser, x: Tensor, sigmas: Tensor, *, draw: Draw, on_step: OnStep = ignore) -> Tensor:
    """The random walk that diffusion models began with: each step goes to the mean of the past, and adds its spread.

    x, sigmas and draw as for `euler_ancestral`. Ho et al. 2020, arXiv:2006.11239, algorithm 2. Calls denoise N times.
    """
    for step, (now, then) in enumerate(pairwise(sigmas)):
        clean = denoise(x, now)
        x = clean + (x - clean) * (then / now) ** 2
        if then > 0:
            x = x + draw() * then * (1 - (then / now) ** 2).sqrt()
        on_step(step, clean)
    return x


@sampler("lcm", order=1)
def lcm(denoise: Denoiser, x: Tensor, sigmas: Tensor, *, path: Path, draw: Draw, on_step: OnStep = ignore) -> Tensor:
    """For networks that tell the clean picture at once: each step believes it, and covers it with less noise.

    x, sigmas and draw as for `euler_ancestral`. Luo et al. 2023, arXiv:2310.04378, algorithm 3. Calls denoise N times.
    """
    for step, (now, then) in enumerate(pairwise(sigmas)):
        clean = denoise(x, now)
        x = path.noised(clean, draw(), then) if then > 0 else clean
        on_step(step, clean)
    return x
