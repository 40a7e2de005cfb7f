"""Seeded noise, drawn so that one seed gives one picture on every machine."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

Draw = Callable[[], Tensor]
"""Gives fresh standard normal noise, of one shape, at each call."""

Between = Callable[[Tensor, Tensor], Tensor]
"""Gives standard normal noise for the step from one level to a lower one."""


def initial(seed: int, like: Tensor, places: Sequence[int] | None = None) -> Tensor:
    """Standard normal noise of the shape and dtype of `like`, drawn on the CPU whatever its device.

    places: which draw each item of the batch gets, counted from 0; items that name the same draw share it. None means
    that the whole batch is drawn at once.
    """
    generator = torch.Generator().manual_seed(seed)
    if places is None:
        return torch.randn(like.shape, generator=generator, dtype=like.dtype).to(like.device)
    shape = (1, *like.shape[1:])
    draws = [torch.randn(shape, generator=generator, dtype=like.dtype) for _ in range(max(places) + 1)]
    return torch.cat([draws[place] for place in places]).to(like.device)


def stream(seed: int, like: Tensor) -> Draw:
    """Noise for samplers that add some while they walk: draws of the shape, dtype and device of `like`."""
    generator = torch.Generator(like.device).manual_seed(seed)
    return lambda: torch.randn(like.shape, generator=generator, dtype=like.dtype, device=like.device)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bridge:
    """Noise for samplers that walk along one Brownian motion W over the levels: what they add does not depend on how
    many steps they take, so that a walk of more steps nears the same picture.

    seed, like: as for `stream`. low, high: the levels between which W is defined. The motion is halved again and again,
    each half drawn from a seed of its own, down to a millionth: Li et al. 2020, arXiv:2001.01328, algorithm 3
    (virtual Brownian tree), with the seeds of Kidger et al. 2021, arXiv:2105.13493, section 4, as torchsde makes them.
    """

    seed: int
    like: Tensor
    low: float
    high: float

    def __call__(self, now: Tensor, then: Tensor) -> Tensor:
        """Noise of unit variance for the step from level `now` to `then`, within low..high; 0 where they are equal."""
        first, last = sorted((float(then.float()), float(now.float())))
        if first == last:
            return torch.zeros_like(self.like)
        walked = self._increment(self._within(first), self._within(last))
        sign = 1 if now < then else -1
        return sign * walked / math.sqrt(last - first)

    def _within(self, sigma: float) -> float:
        return _place(min(max(sigma, self.low), self.high))

    def _increment(self, first: float, last: float) -> Tensor:
        """W(last) - W(first)."""
        whole = self._noise(()) * math.sqrt(self.high - self.low)
        return self._part(_Interval(_place(self.low), _place(self.high), 0, 0), whole, first, last)

    def _part(self, interval: _Interval, walked: Tensor, first: float, last: float) -> Tensor:
        """The increment over first..last, given what W `walked` over an interval that holds them."""
        if first == last:
            return torch.zeros_like(walked)
        if (first, last) == (interval.start, interval.end):
            return walked
        left, right = interval.halves()
        width = interval.end - interval.start
        before, after = left.end - left.start, right.end - right.start
        spread = math.sqrt(before * after / width)
        left_walked = walked * (before / width) + spread * self._noise((interval.place, interval.depth))
        if last <= left.end:
            return self._part(left, left_walked, first, last)
        if first >= left.end:
            return self._part(right, walked - left_walked, first, last)
        return self._part(left, left_walked, first, left.end) + self._part(right, walked - left_walked, left.end, last)

    def _noise(self, key: tuple[int, ...]) -> Tensor:
        sequence = np.random.SeedSequence(self.seed, spawn_key=key, pool_size=24)
        generator = torch.Generator(self.like.device).manual_seed(int(sequence.generate_state(4)[0]))
        shape, dtype, device = self.like.shape, self.like.dtype, self.like.device
        return torch.randn(shape, generator=generator, dtype=dtype, device=device)


@dataclass(frozen=True, slots=True)
class _Interval:
    """Where a half lies among the halves of its depth."""

    start: float
    end: float
    place: int
    depth: int

    def halves(self) -> tuple[_Interval, _Interval]:
        middle = _place((self.start + self.end) / 2)
        return (
            _Interval(self.start, middle, 2 * self.place, self.depth + 1),
            _Interval(middle, self.end, 2 * self.place + 1, self.depth + 1),
        )


def _place(sigma: float) -> float:
    return round(sigma, 6)
