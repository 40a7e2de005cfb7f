"""tiled(): a large tensor through a function piece by piece, with soft seams."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from math import prod

import torch
from torch import Tensor

OnTile = Callable[[int, int], None]


def nothing(_done: int, _of: int) -> None:
    """Listens to no progress."""


def tiled(
    function: Callable[[Tensor], Tensor],
    x: Tensor,
    *,
    tile: tuple[int, ...],
    overlap: int | tuple[int, ...],
    scale: float | tuple[float, ...] = 1.0,
    channels: int = 3,
    on_tile: OnTile = nothing,
) -> Tensor:
    """What `function` makes of x (B, C, ...), as float32 on the CPU: piece by piece, averaged where pieces overlap.

    tile, overlap: edges of a piece, and what neighbours share, in places of x. scale: how many places of the answer
    come from one of x. Towards the edges of a piece its weight falls over the overlap. channels: of the answer.
    on_tile: is told after each piece how many are done of how many.
    """
    dims = x.ndim - 2
    overlaps = (overlap,) * dims if isinstance(overlap, int) else overlap
    scales = (float(scale),) * dims if isinstance(scale, int | float) else scale
    size = [round(edge * factor) for edge, factor in zip(x.shape[2:], scales, strict=True)]
    out = torch.empty(len(x), channels, *size)
    total, done = len(x) * count(x.shape[2:], tile, overlaps), 0
    for number in range(len(x)):
        item = x[number : number + 1]
        summed, weights = torch.zeros(1, channels, *size), torch.zeros(1, 1, *size)
        for starts, ends in _pieces(x.shape[2:], tile, overlaps):
            piece = item
            for dim, (start, end) in enumerate(zip(starts, ends, strict=True)):
                piece = piece.narrow(dim + 2, start, end - start)
            answer = function(piece).float().cpu()
            mask = _mask(answer, [round(each * factor) for each, factor in zip(overlaps, scales, strict=True)])
            target, weight = summed, weights
            for dim, start in enumerate(starts):
                first, length = round(start * scales[dim]), answer.shape[dim + 2]
                target, weight = target.narrow(dim + 2, first, length), weight.narrow(dim + 2, first, length)
            target.add_(answer * mask)
            weight.add_(mask)
            done += 1
            on_tile(done, total)
        out[number : number + 1] = summed / weights
    return out


def count(size: tuple[int, ...], tile: tuple[int, ...], overlap: int | tuple[int, ...]) -> int:
    """How many pieces an item of this size has."""
    overlaps = (overlap,) * len(size) if isinstance(overlap, int) else overlap
    return prod(len(_starts(*each)) for each in zip(size, tile, overlaps, strict=True))


def _pieces(
    size: tuple[int, ...], tile: tuple[int, ...], overlaps: tuple[int, ...]
) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    for starts in product(*(_starts(*each) for each in zip(size, tile, overlaps, strict=True))):
        yield starts, tuple(min(edge, start + piece) for edge, start, piece in zip(size, starts, tile, strict=True))


def _starts(edge: int, tile: int, overlap: int) -> list[int]:
    return [0] if edge <= tile else list(range(0, edge - overlap, tile - overlap))


def _mask(answer: Tensor, feathers: list[int]) -> Tensor:
    """1 in the middle, and less in steps towards every edge."""
    mask = torch.ones(1, 1, *answer.shape[2:])
    for dim, feather in enumerate(feathers, start=2):
        edge = mask.shape[dim]
        if feather >= edge:
            continue
        ramp = torch.arange(1, feather + 1) / max(1, feather)
        shape = [feather if each == dim else 1 for each in range(mask.ndim)]
        mask.narrow(dim, 0, feather).mul_(ramp.reshape(shape))
        mask.narrow(dim, edge - feather, feather).mul_(ramp.flip(0).reshape(shape))
    return mask
