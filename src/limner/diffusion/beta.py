"""The beta distribution: where it has a given share of its mass."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

HALVINGS = 50
"""Of the range 0..1: to about 1e-15."""

TERMS = 200
"""Of the continued fraction: it needs about the root of the larger shape."""

Numbers = NDArray[np.float64]


def quantiles(shares: Tensor, a: float, b: float) -> Tensor:
    """The places in 0..1 below which the distribution with shapes a and b, both above 0, has these shares of its mass.

    shares: (n,) float64 in 0..1.
    """
    wanted = shares.numpy()
    low, high = np.zeros_like(wanted), np.ones_like(wanted)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        below = _mass(middle, a, b) < wanted
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    places = np.where(wanted <= 0, 0.0, np.where(wanted >= 1, 1.0, (low + high) / 2))
    return torch.from_numpy(places)


def _mass(places: Numbers, a: float, b: float) -> Numbers:
    """The regularized incomplete beta function, I_x(a, b)."""
    mirrored = places > (a + 1) / (a + b + 2)  # the fraction converges fast on this side only
    first = _lower(np.where(mirrored, 0.0, places), a, b)
    second = _lower(np.where(mirrored, 1 - places, 0.0), b, a)
    return np.where(mirrored, 1 - second, first)


def _lower(x: Numbers, a: float, b: float) -> Numbers:
    """I_x(a, b) by its continued fraction (NIST Digital Library of Mathematical Functions, 8.17.22)."""
    inner = np.clip(x, 1e-300, 1 - 1e-16)
    front = a * np.log(inner) + b * np.log1p(-inner) + math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    c, d = np.ones_like(x), 1 / _off_zero(1 - (a + b) * inner / (a + 1))
    fraction = d
    for term in range(1, TERMS):
        even = term * (b - term) * inner / ((a + 2 * term - 1) * (a + 2 * term))
        odd = -(a + term) * (a + b + term) * inner / ((a + 2 * term) * (a + 2 * term + 1))
        change = np.ones_like(x)
        for step in (even, odd):
            d = 1 / _off_zero(1 + step * d)
            c = _off_zero(1 + step / c)
            change = c * d
            fraction = fraction * change
        if np.abs(change - 1).max() < 1e-14:
            break
    answer: Numbers = np.where(x <= 0, 0.0, np.exp(front) * fraction / a)
    return answer


def _off_zero(values: Numbers) -> Numbers:
    return np.where(np.abs(values) < 1e-300, 1e-300, values)
