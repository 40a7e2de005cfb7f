"""Samplers that follow the curve through their last slopes."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

from torch import Tensor

from limner.diffusion.denoiser import Both, Denoiser
from limner.diffusion.samplers.base import OnStep, ignore, sampler

Shares = Callable[[Sequence[float], float], Sequence[float]]
"""What part the slopes at passed levels, the newest first, have in a step to the given level: their factors."""


@sampler("lms", order=2)
def lms(denoise: Denoiser, x: Tensor, sigmas: Tensor, *, order: int = 4, on_step: OnStep = ignore) -> Tensor:
    """Deterministic sampler that follows the curve through its last slopes.

    x and sigmas as for `euler`. order: how many slopes. The Adams-Bashforth method with steps of any length; the first
    steps have fewer slopes to go by, which holds its order down; one that ends at 0 is of first order. Calls denoise N
    times.
    """
    return _walk(denoise, x, sigmas, integrals, order, on_step)


@sampler("ipndm", order=2)
def ipndm(denoise: Denoiser, x: Tensor, sigmas: Tensor, *, order: int = 4, on_step: OnStep = ignore) -> Tensor:
    """Deterministic sampler that follows its last slopes, as if all steps had one length.

    x and sigmas as for `euler`. Zhang and Chen 2022, arXiv:2204.13902, section 3.3 (iPNDM): the Adams-Bashforth
    coefficients of even steps. A step that ends at 0 is of first order. Calls denoise N times.
    """
    return _walk(denoise, x, sigmas, _even, order, on_step)


@sampler("ipndm_v", order=2)
def ipndm_v(denoise: Denoiser, x: Tensor, sigmas: Tensor, *, order: int = 4, on_step: OnStep = ignore) -> Tensor:
    """`ipndm` that minds the length of its steps.

    x and sigmas as for `euler`. The coefficients are those in common use since Zhou et al. 2024 (AMED),
    arXiv:2312.00094, whose third and fourth slope weigh otherwise than the Adams-Bashforth method has them: `lms` is
    that. Calls denoise N times.
    """
    return _walk(denoise, x, sigmas, _uneven, order, on_step)


@sampler("deis", order=2)
def deis(denoise: Denoiser, x: Tensor, sigmas: Tensor, *, order: int = 3, on_step: OnStep = ignore) -> Tensor:
    """Deterministic sampler that follows its last slopes as a polynomial in the time of the diffusion.

    x and sigmas as for `euler`. order: how many slopes. Zhang and Chen 2022, arXiv:2204.13902, section 3.2 (tAB-DEIS),
    with the time of a diffusion between the levels 0.002 and 80. Calls denoise N times.
    """
    return _walk(denoise, x, sigmas, partial(integrals, time=_vp_time), order, on_step)


@sampler("gradient_estimation", order=1)
def gradient_estimation(
    denoise: Denoiser, x: Tensor, sigmas: Tensor, *, gamma: float = 2.0, on_step: OnStep = ignore
) -> Tensor:
    """Euler that corrects each slope by how it has changed since the step before.

    x and sigmas as for `euler`. gamma: how much. Permenter and Yuan 2023, arXiv:2306.04848, section 4.1. Calls denoise
    N times.
    """
    before = None
    for step, (now, then) in enumerate(pairwise(sigmas)):
        clean = denoise(x, now)
        slope = (x - clean) / now
        better = slope if before is None or then == 0 else gamma * slope + (1 - gamma) * before
        x, before = x + better * (then - now), slope
        on_step(step, clean)
    return x


@sampler("gradient_estimation_cfg_pp", order=1)
def gradient_estimation_cfg_pp(
    both: Both, x: Tensor, sigmas: Tensor, *, gamma: float = 2.0, on_step: OnStep = ignore
) -> Tensor:
    """`gradient_estimation` that covers the guided picture with the noise which is expected without guidance.

    All as for `gradient_estimation`. Chung et al. 2024 (CFG++), arXiv:2406.08070. Calls both N times.
    """
    before = None
    for step, (now, then) in enumerate(pairwise(sigmas)):
        clean, unguided = both(x, now)
        slope = (x - unguided) / now
        x = clean + slope * then
        if before is not None and then > 0:
            x = x + (gamma - 1) * (slope - before) * (then - now)
        before = slope
        on_step(step, clean)
    return x


def _walk(denoise: Denoiser, x: Tensor, sigmas: Tensor, shares: Shares, order: int, on_step: OnStep) -> Tensor:
    slopes: deque[Tensor] = deque(maxlen=order)
    passed: deque[float] = deque(maxlen=order)
    for step, (now, then) in enumerate(pairwise(sigmas)):
        clean = denoise(x, now)
        slopes.appendleft((x - clean) / now)
        passed.appendleft(float(now))
        if then == 0:
            x = clean
        else:
            x = x + sum(slope * share for slope, share in zip(slopes, shares(passed, float(then)), strict=True))
        on_step(step, clean)
    return x


EVEN_SHARES = (
    (1.0,),
    (3 / 2, -1 / 2),
    (23 / 12, -16 / 12, 5 / 12),
    (55 / 24, -59 / 24, 37 / 24, -9 / 24),
)
"""What part the last slopes have in a step, the newest first: Adams-Bashforth of order 1 to 4 with even steps."""


def _even(passed: Sequence[float], then: float) -> list[float]:
    return [share * (then - passed[0]) for share in EVEN_SHARES[len(passed) - 1]]


def _uneven(passed: Sequence[float], then: float) -> list[float]:
    """Newton's form: what the slope, and its first, second and third change, have in a step. They are taken apart into
    the shares of the slopes."""
    h = [then - passed[0], *(newer - older for newer, older in pairwise(passed))]
    shares = [1.0]
    if len(passed) > 1:
        first = h[0] / h[1] / 2
        shares = [1 + first, -first]
    if len(passed) > 2:
        near = h[1] / h[2]
        second = (1 - h[0] ** 2 / (3 * h[1] * (h[1] + h[2]))) / 2
        shares = _added(shares, second, [1, -(1 + near), near])
    if len(passed) > 3:
        further = h[1] * (h[1] + h[2]) / (h[2] * (h[2] + h[3]))
        third = (1 - h[0] / (3 * (h[0] + h[1]))) / 2
        third += (1 - h[0] / (2 * (h[0] + h[1]))) * h[0] / (6 * (h[0] + h[1] + h[2]))
        third *= h[0] * (h[0] + h[1]) * sum(h[:3]) / (h[1] * (h[1] + h[2]) * sum(h[1:]))
        change = [1, -(1 + near + further), near + further * (1 + h[2] / h[3]), -further * near]
        shares = _added(shares, third, change)
    return [share * h[0] for share in shares]


def _added(shares: Sequence[float], factor: float, change: Sequence[float]) -> list[float]:
    return [share + factor * each for share, each in zip([*shares, 0.0], change, strict=True)]


GAUSS = (
    (-0.9061798459386640, 0.2369268850561891),
    (-0.5384693101056831, 0.4786286704993665),
    (0.0, 0.5688888888888889),
    (0.5384693101056831, 0.4786286704993665),
    (0.9061798459386640, 0.2369268850561891),
)
"""Places and weights of Gauss-Legendre quadrature with five points over -1..1."""


def integrals(passed: Sequence[float], then: float, time: Callable[[float], float] = float) -> list[float]:
    """The integral from passed[0] to `then` of each polynomial that is 1 at one passed level and 0 at the others.

    time: what the polynomials are polynomials of, as a function of the level.
    """
    times = [time(sigma) for sigma in passed]
    shares = []
    for mine in times:
        others = [other for other in times if other != mine]
        total = 0.0
        for place, weight in GAUSS:
            sigma = (passed[0] + then) / 2 + place * (then - passed[0]) / 2
            total += weight * math.prod((time(sigma) - other) / (mine - other) for other in others)
        shares.append(total * (then - passed[0]) / 2)
    return shares


RISE = 2 * (math.log1p(0.002**2) / 1e-3 - math.log1p(80.0**2)) / (1e-3 - 1)
LOW = math.log1p(80.0**2) - RISE / 2
"""beta(t) = LOW + RISE * t of a diffusion that is at level 0.002 at time 0.001, and at level 80 at time 1."""


def _vp_time(sigma: float) -> float:
    """The time at which that diffusion is at this level. Song et al. 2021, arXiv:2011.13456, equation 33."""
    return (math.sqrt(LOW**2 + 2 * RISE * math.log1p(sigma**2)) - LOW) / RISE
