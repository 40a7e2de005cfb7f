"""Samplers that follow slopes: Euler, Heun, and what is added to them."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor

from limner.diffusion.denoiser import Both, Denoiser
from limner.diffusion.noise import Draw
from limner.diffusion.path import Path, split
from limner.diffusion.samplers.base import OnStep, also, ignore, sampler, towards


@sampler("euler", order=1)
def euler(denoise: Denoiser, x: Tensor, sigmas: Tensor, *, on_step: OnStep = ignore) -> Tensor:
    """Deterministic first-order sampler: each step follows the slope at its start.

    x: (B, C, ...) at level sigmas[0]. sigmas: (N + 1,), falling; the last may be 0. Returns x at sigmas[-1].
    Karras et al. 2022, arXiv:2206.00364, algorithm 1 without its correction. Calls denoise N times.
    """
    for step, (now, then) in enumerate(pairwise(sigmas)):
        clean = denoise(x, now)
        x = x + (x - clean) / now * (then - now)
        on_step(step, clean)
    return x


also(euler, "ddim", own_fill=True)
"""Deterministic DDIM is Euler in sigma space: Song et al. 2021, arXiv:2010.02502, section 4.3."""


@sampler("euler_ancestral", order=1)
def euler_ancestral(
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
    """Euler that goes a little too far down at each step, and adds fresh noise to come back up.

    x and sigmas as for `euler`. draw: noise of x's shape, once per step but the last. eta: how much of that there is;
    0 is `euler`. noise_scale: the standard deviation of the noise. path: how to split a step. Calls denoise N times.
    """
    for step, (now, then) in enumerate(pairwise(sigmas)):
        clean = denoise(x, now)
        down, scale, up = path.split(now, then, eta)
        x = towards(clean, x, now, down)
        if then > 0 and eta > 0:
            x = scale * x + draw() * up * noise_scale
        on_step(step, clean)
    return x


@sampler("euler_ancestral_cfg_pp", order=1)
def euler_ancestral_cfg_pp(
    both: Both,
    x: Tensor,
    sigmas: Tensor,
    *,
    path: Path,
    draw: Draw,
    eta: float = 1.0,
    noise_scale: float = 1.0,
    on_step: OnStep = ignore,
) -> Tensor:
    """`euler_ancestral` that covers the guided picture with the noise which is expected without guidance.

    x, sigmas and draw as for `euler_ancestral`. Chung et al. 2024 (CFG++), arXiv:2406.08070, algorithm 2, with the
    split of a step taken on the exploding path. Calls both N times.
    """
    for step, (now, then) in enumerate(pairwise(sigmas)):
        clean, unguided = both(x, now)
        noise = (x - path.kept(now) * unguided) / now
        kept = path.kept(then)
        down, up = split(path.ratio(now), path.ratio(then), eta)
        x = kept * (clean + noise * down)
        if then > 0 and eta > 0:
            x = x + draw() * kept * up * noise_scale
        on_step(step, clean)
    return x


@sampler("euler_cfg_pp", order=1)
def euler_cfg_pp(both: Both, x: Tensor, sigmas: Tensor, *, path: Path, on_step: OnStep = ignore) -> Tensor:
    """`euler` that covers the guided picture with the noise which is expected without guidance.

    x and sigmas as for `euler`. Chung et al. 2024 (CFG++), arXiv:2406.08070, algorithm 2. Calls both N times.
    """
    for step, (now, then) in enumerate(pairwise(sigmas)):
        clean, unguided = both(x, now)
        noise = (x - path.kept(now) * unguided) / now
        x = path.noised(clean, noise, then)
        on_step(step, clean)
    return x


@sampler("heun", order=2)
def heun(denoise: Denoiser, x: Tensor, sigmas: Tensor, *, on_step: OnStep = ignore) -> Tensor:
    """Deterministic second-order sampler: each step takes the mean of the slopes at its two ends.

    x and sigmas as for `euler`. Karras et al. 2022, arXiv:2206.00364, algorithm 1. Calls denoise 2N - 1 times where the
    last sigma is 0.
    """
    for step, (now, then) in enumerate(pairwise(sigmas)):
        clean = denoise(x, now)
        slope = (x - clean) / now
        if then > 0:  # at 0 there is no slope to look at
            ahead = x + slope * (then - now)
            slope = (slope + (ahead - denoise(ahead, then)) / then) / 2
        x = x + slope * (then - now)
        on_step(step, clean)
    return x


@sampler("heunpp2", order=1)
def heunpp2(denoise: Denoiser, x: Tensor, sigmas: Tensor, *, on_step: OnStep = ignore) -> Tensor:
    """Heun's sampler that looks two steps ahead, and trusts what lies at a low level less.

    x and sigmas as for `euler`. A slope ahead has its even share times its level over the first level of all, which
    makes this a sampler for few steps: with many, it is of first order. The next to last step looks one step ahead, the
    last none. Calls denoise 3N - 3 times.
    """
    for step, (now, then) in enumerate(pairwise(sigmas)):
        clean = denoise(x, now)
        seen = [(x - clean) / now]
        place, level = x, now
        for ahead in sigmas[step + 1 : step + 3]:
            if ahead == sigmas[-1]:
                break
            place = place + seen[-1] * (ahead - level)
            seen.append((place - denoise(place, ahead)) / ahead)
            level = ahead
        shares = [float(sigma / sigmas[0]) / len(seen) for sigma in sigmas[step + 1 : step + len(seen)]]
        slope = (1 - sum(shares)) * seen[0]
        slope = slope + sum(share * each for share, each in zip(shares, seen[1:], strict=True))
        x = x + slope * (then - now)
        on_step(step, clean)
    return x
