"""Growing and shrinking what is bright in planes (..., H, W). Nothing lies beyond the edge, neither bright nor dark."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

DARKEST = float("-inf")


def dilated(planes: Tensor, size: int) -> Tensor:
    """Each pixel becomes the brightest of a square of `size` pixels around it.

    Of a square with an even edge the larger half lies right of and below the pixel, and the other way round where it
    becomes the darkest: so nothing moves when one follows the other.
    """
    return _brightest(planes, before=size - size // 2 - 1, after=size // 2)


def eroded(planes: Tensor, size: int) -> Tensor:
    """Each pixel becomes the darkest of the square around it."""
    return -_brightest(-planes, before=size // 2, after=size - size // 2 - 1)


def _brightest(planes: Tensor, *, before: int, after: int) -> Tensor:
    """The maximum over squares that begin so many pixels before each pixel and end so many after it."""
    # the maximum over a square is one over rows and one over columns; what lies farther than the edge needs no look
    for direction in (-1, -2):
        far = planes.shape[direction] - 1
        low, high = min(before, far), min(after, far)
        margin = (low, high) if direction == -1 else (0, 0, low, high)
        planes = _running_maximum(F.pad(planes, margin, value=DARKEST), low + high + 1, direction)
    return planes


def dilated_in_diamonds(planes: Tensor, steps: int) -> Tensor:
    """Each pixel becomes the brightest of all that are so many steps away, up, down, left or right."""
    for _ in range(min(steps, sum(planes.shape[-2:]))):
        padded = F.pad(planes, (1, 1, 1, 1), value=DARKEST)
        beside = torch.maximum(padded[..., 1:-1, :-2], padded[..., 1:-1, 2:])
        above_and_below = torch.maximum(padded[..., :-2, 1:-1], padded[..., 2:, 1:-1])
        planes = torch.maximum(planes, torch.maximum(beside, above_and_below))
    return planes


def _running_maximum(x: Tensor, count: int, direction: int) -> Tensor:
    """The largest of each `count` neighbours; the row gets count - 1 shorter. Windows double until wide enough."""
    reach = 1
    while reach < count:
        step = min(reach, count - reach)
        left = x.shape[direction] - step
        x = torch.maximum(x.narrow(direction, 0, left), x.narrow(direction, step, left))
        reach += step
    return x
