"""Tokens: squares of 2x2 places of a latent, as transformers take them."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

EDGE = 2
"""Of a token, in places."""


def padded(x: Tensor) -> Tensor:
    """x (B, C, h, w) with even edges: an odd one is followed by the opposite side's first places."""
    below, beside = x.shape[-2] % EDGE, x.shape[-1] % EDGE
    return F.pad(x, (0, beside, 0, below), mode="circular") if below or beside else x


def into_tokens(x: Tensor) -> Tensor:
    """(B, C, h, w) with even edges to (B, h/2 * w/2, C * 4), each token by channel, then row, then column."""
    batch, channels, height, width = x.shape
    squares = x.reshape(batch, channels, height // EDGE, EDGE, width // EDGE, EDGE)
    return squares.permute(0, 2, 4, 1, 3, 5).reshape(batch, -1, channels * EDGE**2)


def out_of_tokens(tokens: Tensor, height: int, width: int) -> Tensor:
    """The inverse of `into_tokens`, for a latent with these even edges."""
    squares = tokens.reshape(len(tokens), height // EDGE, width // EDGE, -1, EDGE, EDGE)
    return squares.permute(0, 3, 1, 4, 2, 5).reshape(len(tokens), -1, height, width)
