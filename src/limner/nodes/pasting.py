"""Putting one picture or latent into another, under a mask."""

from __future__ import annotations

import torch
from torch import Tensor

from limner.nodes.fitting import counted, masks, repeated
from limner.nodes.scaling import scale_masks, scale_planes


def pasted(below: Tensor, above: Tensor, x: int, y: int, *, mask: Tensor | None = None, fit: bool = False) -> Tensor:
    """Planes (B, C, H, W) with others put in at a place; 1 in the mask shows what is above.

    x, y: where the left upper corner of `above` comes, in places; what reaches out is left out. fit: `above` is first
    brought to the size of `below`. The mask is stretched over `above`. Batches are repeated or cut to that of `below`.
    """
    counted(x=x, y=y)
    height, width = below.shape[-2:]
    if fit:
        above = scale_planes(above, width, height, "bilinear")
    left, top = min(x, width), min(y, height)
    above = repeated(above, len(below)).to(below)
    share = torch.ones_like(above[:, :1]) if mask is None else _share(masks(mask), above)
    window = (..., slice(top, top + above.shape[-2]), slice(left, left + above.shape[-1]))
    inside = (..., slice(height - top), slice(width - left))
    result = below.clone()
    result[window] = share[inside] * above[inside] + (1 - share[inside]) * below[window]
    return result


def _share(mask: Tensor, above: Tensor) -> Tensor:
    """A mask (B, H, W) as (B, 1, ...) over planes of another size and batch."""
    stretched = scale_masks(mask.to(above), above.shape[-1], above.shape[-2])[:, None]
    stretched = repeated(stretched, len(above))
    return stretched[:, :, None] if above.ndim == 5 else stretched
