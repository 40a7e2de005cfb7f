"""Samplers: walks from noise down to a picture, a function each. `SAMPLERS` has them by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from limner.diffusion.denoiser import Denoiser
from limner.diffusion.noise import Draw

OnStep = Callable[[int, Tensor], None]
"""Called after each step with its number, from 0, and the clean x that was expected there."""


def ignore(step: int, clean: Tensor) -> None:
    """An `OnStep` that does nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampler:
    """A sampler and what a caller must know of it.

    order: how its error falls with the number of steps. random: it draws noise while it walks.
    skip_next_to_last: it wants a schedule without the last level above 0.
    """

    name: str
    order: int
    walk: Callable[..., Tensor]
    random: bool = False
    skip_next_to_last: bool = False

    def __call__(
        self, denoise: Denoiser, x: Tensor, sigmas: Tensor, *, draw: Draw | None = None, on_step: OnStep = ignore
    ) -> Tensor:
        """x walked from sigmas[0] to sigmas[-1]. A random sampler needs `draw`."""
        if len(sigmas) < 2:
            return x
        if self.random:
            return self.walk(denoise, x, sigmas, draw=draw, on_step=on_step)
        return self.walk(denoise, x, sigmas, on_step=on_step)


SAMPLERS: dict[str, Sampler] = {}


def sampler(name: str, *, order: int, **facts: Any) -> Callable[[Callable[..., Tensor]], Sampler]:
    """Makes a function a `Sampler` and enters it into `SAMPLERS`."""

    def enter(walk: Callable[..., Tensor]) -> Sampler:
        SAMPLERS[name] = Sampler(name=name, order=order, walk=walk, **facts)
        return SAMPLERS[name]

    return enter


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


@sampler("euler_ancestral", order=1, random=True)
def euler_ancestral(denoise: Denoiser, x: Tensor, sigmas: Tensor, *, draw: Draw, on_step: OnStep = ignore) -> Tensor:
    """Euler that goes a little too far down at each step, and adds fresh noise to come back up.

    x and sigmas as for `euler`. draw: noise of x's shape, once per step but the last.
    The split of a step is that of Song et al. 2021, arXiv:2010.02502, equation 16 with eta 1. Calls denoise N times.
    """
    for step, (now, then) in enumerate(pairwise(sigmas)):
        clean = denoise(x, now)
        down, up = _split(now, then)
        x = x + (x - clean) / now * (down - now)
        if then > 0:
            x = x + draw() * up
        on_step(step, clean)
    return x


@sampler("dpmpp_2m", order=2)
def dpmpp_2m(denoise: Denoiser, x: Tensor, sigmas: Tensor, *, on_step: OnStep = ignore) -> Tensor:
    """Deterministic second-order sampler that learns the curve from the step before.

    x and sigmas as for `euler`. Lu et al. 2022 (DPM-Solver++), arXiv:2211.01095, algorithm 2, in sigma space, where
    time is -log sigma. The first step, and one that ends at 0, are of first order. Calls denoise N times.
    """
    before: tuple[Tensor, Tensor] | None = None  # the last step's clean x and its length in time
    for step, (now, then) in enumerate(pairwise(sigmas)):
        clean = denoise(x, now)
        length = (now / then).log()
        ahead = clean
        if before is not None and then > 0:
            ahead = clean + (clean - before[0]) * length / (2 * before[1])
        x = x * then / now + ahead * (1 - then / now)
        before = clean, length
        on_step(step, clean)
    return x


def _split(now: Tensor, then: Tensor) -> tuple[Tensor, Tensor]:
    """How far to go down, and how much noise to add, so that a step from `now` ends at level `then`."""
    up = torch.minimum(then, then / now * (now**2 - then**2).sqrt())
    return (then**2 - up**2).sqrt(), up
