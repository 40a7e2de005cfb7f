"""Random samplers of high order for the reverse SDE, in time -log sigma: SEEDS and ER-SDE.

eta: how much noise is added, 1 as much as the diffusion had, 0 none; noise_scale: its standard deviation.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from limner.diffusion.denoiser import Denoiser
from limner.diffusion.noise import Draw
from limner.diffusion.samplers.base import OnStep, ignore, sampler, towards


@sampler("seeds_2", order=2, exploding=True)
def seeds_2(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    *,
    draw: Draw,
    eta: float = 1.0,
    noise_scale: float = 1.0,
    r: float = 0.5,
    on_step: OnStep = ignore,
) -> Tensor:
    """Second-order sampler that looks ahead to a place within each step, along one stretch of noise.

    x, sigmas and draw as for `euler_ancestral`. r: that place, 0..1. Gonzalez et al. 2023 (SEEDS), arXiv:2305.14267,
    algorithm 2. Calls denoise 2N - 1 times where the last sigma is 0.
    """
    for step, (now, then) in enumerate(pairwise(sigmas)):
        clean = denoise(x, now)
        if then == 0:
            x = clean
        else:
            walk = _Stretch(x, now, then, eta, noise_scale, draw)
            middle = walk.at(r)
            ahead = denoise(walk.to(clean, middle), middle)
            x = walk.to(torch.lerp(clean, ahead, 1 / (2 * r)), then)
        on_step(step, clean)
    return x


@sampler("seeds_3", order=3, exploding=True)
def seeds_3(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    *,
    draw: Draw,
    eta: float = 1.0,
    noise_scale: float = 1.0,
    r_1: float = 1 / 3,
    r_2: float = 2 / 3,
    on_step: OnStep = ignore,
) -> Tensor:
    """Third-order sampler that looks ahead to two places within each step, along one stretch of noise.

    x, sigmas and draw as for `euler_ancestral`. r_1, r_2: those places, 0..1. Gonzalez et al. 2023 (SEEDS),
    arXiv:2305.14267, algorithm 3. Calls denoise 3N - 2 times where the last sigma is 0.
    """
    for step, (now, then) in enumerate(pairwise(sigmas)):
        clean = denoise(x, now)
        if then == 0:
            x = clean
        else:
            walk = _Stretch(x, now, then, eta, noise_scale, draw)
            first, second = walk.at(r_1), walk.at(r_2)
            bend = (denoise(walk.to(clean, first), first) - clean) / r_1
            place = walk.to(clean, second) + walk.bent(second) * r_2 * bend
            bend = (denoise(place, second) - clean) / r_2
            x = walk.to(clean, then) + walk.bent(then) * bend
        on_step(step, clean)
    return x


class _Stretch:
    """The way from x at level `now` to `then`, with one motion of noise along it: places must be asked for in order."""

    def __init__(self, x: Tensor, now: Tensor, then: Tensor, eta: float, noise_scale: float, draw: Draw) -> None:
        self._x, self._now, self._eta = x, now, eta
        self._length = (now / then).log()
        self._draw, self._noise_scale = draw, noise_scale
        self._noise, self._passed = torch.zeros_like(x), now

    def at(self, part: float) -> Tensor:
        """The level at this part of the way, in log sigma."""
        return self._now * (-part * self._length).exp()

    def to(self, clean: Tensor, level: Tensor) -> Tensor:
        """x at that level if `clean` were right all the way, with the noise that came on the way."""
        if self._eta > 0:
            faded = (level / self._passed) ** self._eta
            self._noise = faded * self._noise + (1 - faded**2).sqrt() * self._draw()
            self._passed = level
        down = level * (level / self._now) ** self._eta
        return towards(clean, self._x, self._now, down) + level * self._noise * self._noise_scale

    def bent(self, level: Tensor) -> Tensor:
        """How far a steady change of the clean x carries x up to that level."""
        whole = (1 + self._eta) * (self._now / level).log()
        return torch.expm1(-whole) / whole + 1


@sampler("er_sde", order=1, exploding=True)
def er_sde(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    *,
    draw: Draw,
    noise_scale: float = 1.0,
    scaler: Callable[[Tensor], Tensor] | None = None,
    stages: int = 3,
    on_step: OnStep = ignore,
) -> Tensor:
    """Sampler for the reverse SDE, with as much noise as a function of the level says.

    x, sigmas and draw as for `euler_ancestral`. scaler: that function; the less its logarithm rises than that of the
    level, the less noise. stages: 1 to 3, the order. Cui et al. 2023 (ER-SDE), arXiv:2309.06169, algorithms 3 to 5.
    Calls denoise N times. Its integrals are summed up by rectangles, which holds its order down.
    """
    scaler = scaler or er_noise
    before: tuple[Tensor, Tensor] | None = None  # the last step's clean x and its level
    bend_before: tuple[Tensor, Tensor] | None = None
    for step, (now, then) in enumerate(pairwise(sigmas)):
        clean = denoise(x, now)
        if then == 0:
            x = clean
        else:
            ratio = scaler(then) / scaler(now)
            x = ratio * x + (1 - ratio) * clean
            if before is not None and stages >= 2:
                straight, curved = _areas(scaler, now, then)
                bend = (clean - before[0]) / (now - before[1])
                x = x + (then - now + straight * scaler(then)) * bend
                if bend_before is not None and stages >= 3:
                    twist = (bend - bend_before[0]) / ((now - bend_before[1]) / 2)
                    x = x + ((then - now) ** 2 / 2 + curved * scaler(then)) * twist
                bend_before = bend, before[1]
            x = x + draw() * noise_scale * (then**2 - (now * ratio) ** 2).clamp(min=0).sqrt()
            before = clean, now
        on_step(step, clean)
    return x


def er_noise(level: Tensor) -> Tensor:
    """The noise scale that Cui et al. found best, ER-SDE 5 of their table."""
    return level * ((level**0.3).exp() + 10)


def _areas(scaler: Callable[[Tensor], Tensor], now: Tensor, then: Tensor, parts: int = 200) -> tuple[Tensor, Tensor]:
    """The integrals of 1 / scaler and of (level - now) / scaler from `then` up to `now`, by rectangles."""
    width = (now - then) / parts
    levels = then + torch.arange(parts, dtype=torch.float32, device=then.device) * width
    return (1 / scaler(levels)).sum() * width, ((levels - now) / scaler(levels)).sum() * width
