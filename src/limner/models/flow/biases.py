"""scores(): how much a network heeds some of the text's tokens, beyond what attention itself makes of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

Bias = tuple[int, int, float]
"""Tokens of the text from the first to before the second, and what is added to the score of looking at them."""


def scores(biases: Sequence[Bias], tokens: int, like: Tensor) -> Tensor | None:
    """What attention adds to its scores, (tokens, tokens), in `like`'s precision; None where nothing is to be added.

    The text stands first among the tokens. Each bias counts for all that look but the group's own tokens.
    """
    if not biases:
        return None
    added = torch.zeros(tokens, tokens)
    for first, end, bias in biases:
        before = added[first:end, first:end].clone()
        added[:, first:end] += bias
        added[first:end, first:end] = before
    return added.to(like)
