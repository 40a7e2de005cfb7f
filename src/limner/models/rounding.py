"""rounded(): weights in fewer bits, as UNETLoader's `weight_dtype` asks."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from limner.models.weights import Weights, release

EIGHT_BITS = {
    "fp8_e4m3fn": torch.float8_e4m3fn,
    "fp8_e4m3fn_fast": torch.float8_e4m3fn,
    "fp8_e5m2": torch.float8_e5m2,
}
"""What the choices stand for. The fast one differs in how hardware multiplies, not in the weights."""

CHOICES = ("default", *EIGHT_BITS)


def rounded(weights: Weights, choice: str) -> Weights:
    """The weights, rounded to 8 bits each where the choice says so. They are computed with in the usual precision."""
    if choice not in EIGHT_BITS:
        return weights
    dtype, fetch = EIGHT_BITS[choice], weights.fetch

    def fetched(name: str) -> Tensor:
        tensor = fetch(name)
        if not tensor.is_floating_point() or tensor.dtype.itemsize < 2 or tensor.ndim < 2:
            return tensor
        smaller = tensor.to(dtype)
        release(tensor)
        return smaller

    return replace(weights, fetch=fetched)
