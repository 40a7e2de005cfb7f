"""What transformers of pictures share."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor


def rms_norm(x: Tensor, weight: Tensor | None = None, eps: float = 1e-6) -> Tensor:
    """x with a mean square of 1 over its last dimension, then weighted. Zhang and Sennrich 2019, arXiv:1910.07467."""
    if weight is not None and weight.dtype != x.dtype:
        weight = weight.to(x.dtype)
    return F.rms_norm(x, x.shape[-1:], weight=weight, eps=eps)


def pad_to_patch_size(img: Tensor, patch_size: Sequence[int] = (2, 2), padding_mode: str = "circular") -> Tensor:
    """A latent (B, C, ...) whose edges are whole patches; what is added comes from the other side."""
    pad: list[int] = []
    for edge, patch in zip(reversed(img.shape[2:]), reversed(list(patch_size)), strict=True):
        pad += [0, -edge % patch]
    return F.pad(img, pad, mode=padding_mode) if any(pad) else img
