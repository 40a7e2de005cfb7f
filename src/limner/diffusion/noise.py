"""Seeded noise, drawn so that one seed gives one picture on every machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Draw = Callable[[], Tensor]
"""Gives fresh standard normal noise, of one shape, at each call."""


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
