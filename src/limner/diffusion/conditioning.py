"""Conditioning: what a walk is asked to move towards (or away from)."""

from __future__ import annotations

from typing import Any

from torch import Tensor

Conditioning = list[tuple[Tensor, dict[str, Any]]]
"""Encoded texts, each (B or 1, tokens, width) with its extras, such as `pooled_output`. Combined, never changed."""


def fit_batch(context: Tensor, count: int) -> Tensor:
    """The encoded text repeated, or cut, to `count` items."""
    repeats = -(-count // len(context))
    return context.repeat(repeats, *[1] * (context.ndim - 1))[:count]
