"""How planes of values, be they pictures, masks or latents, are brought to the size of others."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from limner.diffusion.conditioning import fit_batch

SMOOTH = {1: "linear", 2: "bilinear", 3: "trilinear"}
"""How torch calls a smooth change of size, by the number of edges."""


def fitted(planes: Tensor, edges: Sequence[int], count: int) -> Tensor:
    """Planes (B, C, h, w) with these edges, bilinear, and so many of them: repeated, or the first ones."""
    if planes.shape[-2:] != torch.Size(edges):
        planes = F.interpolate(planes, size=tuple(edges), mode=SMOOTH[2])
    return fit_batch(planes, count)


def middle(planes: Tensor, width: int, height: int) -> Tensor:
    """The middle of planes (..., H, W), as large as its proportions equal width : height; at least a pixel is left."""
    now_height, now_width = planes.shape[-2:]
    now, wanted = now_width / now_height, width / height
    left = round((now_width - now_width * (wanted / now)) / 2) if now > wanted else 0
    top = round((now_height - now_height * (now / wanted)) / 2) if now < wanted else 0
    left, top = min(left, (now_width - 1) // 2), min(top, (now_height - 1) // 2)
    return planes[..., top : now_height - top, left : now_width - left]
