"""Samplers: walks from noise down to a picture, a function each. `SAMPLERS` has them by name."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
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
        x = _towards(clean, x, now, down)
        if then > 0:
            x = x + draw() * up
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


@sampler("dpm_2", order=2, skip_next_to_last=True)
def dpm_2(denoise: Denoiser, x: Tensor, sigmas: Tensor, *, on_step: OnStep = ignore) -> Tensor:
    """Deterministic second-order sampler: each step follows the slope at its middle, in log sigma.

    x and sigmas as for `euler`. Lu et al. 2022 (DPM-Solver), arXiv:2206.00927, algorithm 1, in the form of Karras et
    al. 2022, arXiv:2206.00364, algorithm 2 without churn. Calls denoise 2N - 1 times where the last sigma is 0.
    """
    for step, (now, then) in enumerate(pairwise(sigmas)):
        clean = denoise(x, now)
        x = x + _middle_slope(denoise, x, clean, now, then) * (then - now)
        on_step(step, clean)
    return x


@sampler("dpm_2_ancestral", order=2, random=True, skip_next_to_last=True)
def dpm_2_ancestral(denoise: Denoiser, x: Tensor, sigmas: Tensor, *, draw: Draw, on_step: OnStep = ignore) -> Tensor:
    """`dpm_2` that goes a little too far down at each step, and adds fresh noise to come back up.

    x, sigmas and draw as for `euler_ancestral`. Calls denoise 2N - 1 times where the last sigma is 0.
    """
    for step, (now, then) in enumerate(pairwise(sigmas)):
        clean = denoise(x, now)
        down, up = _split(now, then)
        x = x + _middle_slope(denoise, x, clean, now, down) * (down - now)
        if then > 0:
            x = x + draw() * up
        on_step(step, clean)
    return x


@sampler("lms", order=2)
def lms(denoise: Denoiser, x: Tensor, sigmas: Tensor, *, on_step: OnStep = ignore) -> Tensor:
    """Deterministic sampler that follows the curve through its last four slopes.

    x and sigmas as for `euler`. The Adams-Bashforth method with steps of any length; the first steps have fewer slopes
    to go by, which holds its order down; one that ends at 0 is of first order. Calls denoise N times.
    """
    slopes: deque[Tensor] = deque(maxlen=4)
    passed: deque[float] = deque(maxlen=4)
    for step, (now, then) in enumerate(pairwise(sigmas)):
        clean = denoise(x, now)
        slopes.appendleft((x - clean) / now)
        passed.appendleft(float(now))
        if then == 0:
            x = clean
        else:
            x = x + sum(slope * share for slope, share in zip(slopes, _shares(passed, float(then)), strict=True))
        on_step(step, clean)
    return x


@sampler("dpmpp_2s_ancestral", order=2, random=True)
def dpmpp_2s_ancestral(denoise: Denoiser, x: Tensor, sigmas: Tensor, *, draw: Draw, on_step: OnStep = ignore) -> Tensor:
    """Second-order sampler that looks ahead to the middle of each step, and adds fresh noise at its end.

    x, sigmas and draw as for `euler_ancestral`. Lu et al. 2022 (DPM-Solver++), arXiv:2211.01095, algorithm 1, in sigma
    space. Calls denoise 2N - 1 times where the last sigma is 0.
    """
    for step, (now, then) in enumerate(pairwise(sigmas)):
        clean = ahead = denoise(x, now)
        down, up = _split(now, then)
        if down > 0:
            middle = (now * down).sqrt()
            ahead = denoise(_towards(clean, x, now, middle), middle)
        x = _towards(ahead, x, now, down)
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
        x = _towards(ahead, x, now, then)
        before = clean, length
        on_step(step, clean)
    return x


@sampler("ddpm", order=1, random=True)
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


@sampler("lcm", order=1, random=True)
def lcm(denoise: Denoiser, x: Tensor, sigmas: Tensor, *, draw: Draw, on_step: OnStep = ignore) -> Tensor:
    """For networks that tell the clean picture at once: each step believes it, and covers it with less noise.

    x, sigmas and draw as for `euler_ancestral`. Luo et al. 2023, arXiv:2310.04378, algorithm 3. Calls denoise N times.
    """
    for step, (now, then) in enumerate(pairwise(sigmas)):
        clean = denoise(x, now)
        x = clean + draw() * then if then > 0 else clean
        on_step(step, clean)
    return x


@sampler("ipndm", order=2)
def ipndm(denoise: Denoiser, x: Tensor, sigmas: Tensor, *, on_step: OnStep = ignore) -> Tensor:
    """Deterministic sampler that follows its last four slopes, as if all steps had one length.

    x and sigmas as for `euler`. Zhang and Chen 2022, arXiv:2204.13902, section 3.3 (iPNDM): the Adams-Bashforth
    coefficients of even steps. A step that ends at 0 is of first order. Calls denoise N times.
    """
    slopes: deque[Tensor] = deque(maxlen=4)
    for step, (now, then) in enumerate(pairwise(sigmas)):
        clean = denoise(x, now)
        slopes.appendleft((x - clean) / now)
        if then == 0:
            x = clean
        else:
            mean = sum(slope * share for slope, share in zip(slopes, EVEN_SHARES[len(slopes) - 1], strict=True))
            x = x + mean * (then - now)
        on_step(step, clean)
    return x


@sampler("res_multistep", order=2)
def res_multistep(denoise: Denoiser, x: Tensor, sigmas: Tensor, *, on_step: OnStep = ignore) -> Tensor:
    """Deterministic second-order sampler: an exponential integrator that learns the curve from the step before.

    x and sigmas as for `euler`. Zhang et al. 2023 (RES), arXiv:2308.02157, the multistep form, in time -log sigma. The
    first step, and one that ends at 0, are of first order. Calls denoise N times.
    """
    before: tuple[Tensor, Tensor] | None = None  # the last step's clean x and its length in time
    for step, (now, then) in enumerate(pairwise(sigmas)):
        clean = denoise(x, now)
        length = (now / then).log()
        if before is None or then == 0:
            x = _towards(clean, x, now, then)
        else:
            first = -torch.expm1(-length) / length
            second = (1 - first) / before[1]
            x = x * then / now + length * ((first + second) * clean - second * before[0])
        before = clean, length
        on_step(step, clean)
    return x


@sampler("gradient_estimation", order=1)
def gradient_estimation(denoise: Denoiser, x: Tensor, sigmas: Tensor, *, on_step: OnStep = ignore) -> Tensor:
    """Euler that corrects each slope by how it has changed since the step before.

    x and sigmas as for `euler`. Permenter and Yuan 2023, arXiv:2306.04848, section 4.1, with gamma 2. Calls denoise N
    times.
    """
    gamma, before = 2.0, None
    for step, (now, then) in enumerate(pairwise(sigmas)):
        clean = denoise(x, now)
        slope = (x - clean) / now
        better = slope if before is None or then == 0 else gamma * slope + (1 - gamma) * before
        x, before = x + better * (then - now), slope
        on_step(step, clean)
    return x


SAMPLERS["ddim"] = replace(euler, name="ddim")
"""Deterministic DDIM is Euler in sigma space: Song et al. 2021, arXiv:2010.02502, section 4.3."""

EVEN_SHARES = (
    (1.0,),
    (3 / 2, -1 / 2),
    (23 / 12, -16 / 12, 5 / 12),
    (55 / 24, -59 / 24, 37 / 24, -9 / 24),
)
"""What part the last slopes have in a step, the newest first: Adams-Bashforth of order 1 to 4 with even steps."""


def _towards(clean: Tensor, x: Tensor, now: Tensor, then: Tensor) -> Tensor:
    """x brought from level `now` to `then` as if `clean` were right all the way."""
    return clean + (x - clean) * (then / now)


def _middle_slope(denoise: Denoiser, x: Tensor, clean: Tensor, now: Tensor, then: Tensor) -> Tensor:
    """The slope half-way, in log sigma, between `now` and `then`; the slope at `now` where `then` is 0."""
    slope = (x - clean) / now
    if then == 0:
        return slope
    middle = (now * then).sqrt()
    ahead = x + slope * (middle - now)
    return (ahead - denoise(ahead, middle)) / middle


def _shares(passed: Sequence[float], then: float) -> list[float]:
    """The integral from passed[0] to `then` of each polynomial that is 1 at one passed level and 0 at the others.

    Gauss-Legendre with three points, which is exact up to the fifth power.
    """
    now, shares = passed[0], []
    for mine in passed:
        others = [other for other in passed if other != mine]
        total = 0.0
        for place, weight in ((-math.sqrt(0.6), 5 / 9), (0.0, 8 / 9), (math.sqrt(0.6), 5 / 9)):
            sigma = (now + then) / 2 + place * (then - now) / 2
            total += weight * math.prod((sigma - other) / (mine - other) for other in others)
        shares.append(total * (then - now) / 2)
    return shares


def _split(now: Tensor, then: Tensor) -> tuple[Tensor, Tensor]:
    """How far to go down, and how much noise to add, so that a step from `now` ends at level `then`."""
    up = torch.minimum(then, then / now * (now**2 - then**2).sqrt())
    return (then**2 - up**2).sqrt(), up
