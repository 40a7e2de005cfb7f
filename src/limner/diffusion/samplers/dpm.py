"""DPM-Solver: samplers that solve for the noise, in time -log sigma. Lu et al. 2022, arXiv:2206.00927."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor

from limner.diffusion.denoiser import Denoiser
from limner.diffusion.noise import Draw
from limner.diffusion.path import Path, split
from limner.diffusion.samplers.base import OnStep, ignore, sampler


@sampler("dpm_2", order=2, skip_next_to_last=True)
def dpm_2(denoise: Denoiser, x: Tensor, sigmas: Tensor, *, on_step: OnStep = ignore) -> Tensor:
    """Deterministic second-order sampler: each step follows the slope at its middle, in log sigma.

    x and sigmas as for `euler`. Lu et al. 2022, algorithm 1, in the form of Karras et al. 2022, arXiv:2206.00364,
    algorithm 2 without churn. Calls denoise 2N - 1 times where the last sigma is 0.
    """
    for step, (now, then) in enumerate(pairwise(sigmas)):
        clean = denoise(x, now)
        x = x + _middle_slope(denoise, x, clean, now, then) * (then - now)
        on_step(step, clean)
    return x


@sampler("dpm_2_ancestral", order=2, skip_next_to_last=True)
def dpm_2_ancestral(
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
    """`dpm_2` that goes a little too far down at each step, and adds fresh noise to come back up.

    All as for `euler_ancestral`. Calls denoise 2N - 1 times where the last sigma is 0.
    """
    for step, (now, then) in enumerate(pairwise(sigmas)):
        clean = denoise(x, now)
        down, scale, up = path.split(now, then, eta)
        x = x + _middle_slope(denoise, x, clean, now, down) * (down - now)
        if then > 0 and eta > 0:
            x = scale * x + draw() * up * noise_scale
        on_step(step, clean)
    return x


@sampler("dpm_fast", order=2)
def dpm_fast(denoise: Denoiser, x: Tensor, sigmas: Tensor, *, on_step: OnStep = ignore) -> Tensor:
    """Deterministic sampler for a given number of calls, at levels of its own choice.

    x and sigmas as for `euler`, but only the first sigma, the last above 0, and their number count: the steps are even
    in log sigma, and x ends at the last level above 0. Lu et al. 2022, section 3.4 (DPM-Solver-fast): as many steps of
    order 3 as fit, then one of order 2 or 1, which holds its order down. Calls denoise N times, and tells of a step for
    three of them.
    """
    calls = len(sigmas) - 1
    last = sigmas[-1] if sigmas[-1] > 0 else sigmas[-2]
    orders = [3] * (calls // 3 - 1) + [2, 1] if calls % 3 == 0 else [3] * (calls // 3) + [calls % 3]
    times = torch.linspace(float(-sigmas[0].log()), float(-last.log()), len(orders) + 1, dtype=sigmas.dtype).to(sigmas)
    for step, (order, (time, end)) in enumerate(zip(orders, pairwise(times), strict=True)):
        one = _Step(denoise, x, time)
        x = one.to(end, order)
        on_step(step, one.clean)
    return x


@sampler("dpm_adaptive", order=3)
def dpm_adaptive(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    *,
    draw: Draw | None = None,
    order: int = 3,
    rtol: float = 0.05,
    atol: float = 0.0078,
    h_init: float = 0.05,
    pcoeff: float = 0.0,
    icoeff: float = 1.0,
    dcoeff: float = 0.0,
    accept_safety: float = 0.81,
    eta: float = 0.0,
    noise_scale: float = 1.0,
    on_step: OnStep = ignore,
) -> Tensor:
    """Sampler that chooses the length of its steps by the difference between a lower and a higher order.

    x and sigmas as for `euler`, but only the first sigma and the last above 0 count; x ends at the latter. order: 2 or
    3, the higher one. rtol, atol: how much they may differ. h_init: the first step, in log sigma. pcoeff, icoeff,
    dcoeff: how the length follows the difference (a PID controller). Lu et al. 2022, algorithms 3 and 4, appendix C.
    Early differences are no more than rounding, so the lengths, and with them the end, hang on the order of operations.
    """
    end = -(sigmas[-1] if sigmas[-1] > 0 else sigmas[-2]).log()
    time, before, step = -sigmas[0].log(), x, 0
    control = _Control(h_init, pcoeff, icoeff, dcoeff, 1.5 if eta else float(order), accept_safety)
    while time < end - 1e-5:
        then = torch.minimum(end, time + control.length)
        aim, up = then, torch.zeros_like(then)
        if eta and draw is not None:
            down, _ = split((-time).exp(), (-then).exp(), eta)
            aim = torch.minimum(end, -down.log())
            up = ((-2 * then).exp() - (-2 * aim).exp()).sqrt()
        one = _Step(denoise, x, time)
        low, high = one.to(aim, order - 1, 1 / 3), one.to(aim, order)
        allowed = max(atol, torch.finfo(x.dtype).tiny)
        bound = (rtol * torch.maximum(low.abs(), before.abs())).clamp(min=allowed)
        error = float(torch.linalg.norm((low - high) / bound)) / math.sqrt(x.numel())
        if math.isnan(error):  # a broken network; no step would ever be accepted
            return high
        if control.accepts(error):
            before, x, time = low, high, then
            if eta and draw is not None:
                x = x + draw() * up * noise_scale
        on_step(step, one.clean)
        step += 1
    return x


class _Control:
    """A PID controller of the length of steps. Söderlind 2003, Digital filters in adaptive time-stepping."""

    def __init__(self, length: float, p: float, i: float, d: float, order: float, safety: float) -> None:
        self.length, self._safety = abs(length), safety
        self._powers = ((p + i + d) / order, -(p + 2 * d) / order, d / order)
        self._seen: list[float] = []

    def accepts(self, error: float) -> bool:
        """Whether a step with this error (1 is what may be) counts; sets the length of the next one."""
        inverse = 1 / (error + 1e-8)
        self._seen = [inverse, *(self._seen[1:] or [inverse, inverse])]
        factor = math.prod(seen**power for seen, power in zip(self._seen, self._powers, strict=True))
        factor = 1 + math.atan(factor - 1)
        self.length *= factor
        if factor < self._safety:
            return False
        self._seen = [inverse, inverse, self._seen[1]]
        return True


class _Step:
    """One step from x at `time`, by any order up to 3; what the network said is kept for another order."""

    def __init__(self, denoise: Denoiser, x: Tensor, time: Tensor) -> None:
        self._denoise, self._x, self._time = denoise, x, time
        self._known: dict[float, Tensor] = {}
        self.noise = self._noise(x, time)
        self.clean = x - time.neg().exp() * self.noise

    def to(self, end: Tensor, order: int, first: float | None = None) -> Tensor:
        """x at time `end`. first: the place in the step, 0..1, of the first look ahead."""
        length = end - self._time
        if order == 1:
            return self._moved(end, length)
        return self._second(end, length, first or 1 / 2) if order == 2 else self._third(end, length, first or 1 / 3)

    def _noise(self, x: Tensor, time: Tensor) -> Tensor:
        sigma = time.neg().exp()
        return (x - self._denoise(x, sigma)) / sigma

    def _moved(self, end: Tensor, length: Tensor) -> Tensor:
        return self._x - end.neg().exp() * length.expm1() * self.noise

    def _change(self, length: Tensor, part: float) -> Tensor:
        """How the noise differs at this part of a step of this length, as a first-order step gets there."""
        if part not in self._known:
            time = self._time + part * length
            self._known[part] = self._noise(self._moved(time, part * length), time) - self.noise
        return self._known[part]

    def _second(self, end: Tensor, length: Tensor, part: float) -> Tensor:
        change = self._change(length, part)
        return self._moved(end, length) - end.neg().exp() / (2 * part) * length.expm1() * change

    def _third(self, end: Tensor, length: Tensor, part: float) -> Tensor:
        further = 2 * part
        time = self._time + further * length
        change = self._change(length, part)
        there = self._moved(time, further * length) - time.neg().exp() * 2 * _rest(further * length) * change
        return self._moved(end, length) - end.neg().exp() / further * _rest(length) * (
            self._noise(there, time) - self.noise
        )


def _rest(length: Tensor) -> Tensor:
    """What an exponential has above a straight line, over its length: (e^h - 1) / h - 1."""
    return length.expm1() / length - 1


def _middle_slope(denoise: Denoiser, x: Tensor, clean: Tensor, now: Tensor, then: Tensor) -> Tensor:
    """The slope half-way, in log sigma, between `now` and `then`; the slope at `now` where `then` is 0."""
    slope = (x - clean) / now
    if then == 0:
        return slope
    middle = (now * then).sqrt()
    ahead = x + slope * (middle - now)
    return (ahead - denoise(ahead, middle)) / middle
