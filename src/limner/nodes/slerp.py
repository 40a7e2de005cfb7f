"""Latents in another size by spherical interpolation: direction and length of each place's vector change separately.

Mixing vectors linearly makes those in between too short, which decodes to dull pictures; Shoemake 1985, "Animating
rotation with quaternion curves", has the formula.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.linalg import vector_norm

PARALLEL = 1e-5
"""Where the cosine is this near to 1 or -1, the angle between two vectors says nothing."""


def bislerp(x: Tensor, width: int, height: int) -> Tensor:
    """(B, C, h, w) in another size, first along the width and then along the height. Corners are not aligned."""
    wide = _along(x.movedim(1, -1).float(), width)
    return _along(wide.transpose(1, 2), height).transpose(1, 2).movedim(-1, 1).to(x.dtype)


def slerp(start: Tensor, end: Tensor, share: Tensor) -> Tensor:
    """Vectors (..., C) at this share (..., 1) of the way on the arc from start to end; lengths change linearly.

    Of parallel vectors it is the start; opposite ones are mixed linearly, as there is no shortest arc.
    """
    start_length, end_length = (vector_norm(each, dim=-1, keepdim=True) for each in (start, end))
    start_unit = torch.where(start_length > 0, start / start_length, 0)
    end_unit = torch.where(end_length > 0, end / end_length, 0)
    cosine = (start_unit * end_unit).sum(dim=-1, keepdim=True)
    angle = cosine.clamp(-1, 1).acos()
    unit = (((1 - share) * angle).sin() * start_unit + (share * angle).sin() * end_unit) / angle.sin()
    arc = unit * (start_length * (1 - share) + end_length * share)
    arc = torch.where(cosine > 1 - PARALLEL, start, arc)
    return torch.where(cosine < PARALLEL - 1, start * (1 - share) + end * share, arc)


def _along(x: Tensor, count: int) -> Tensor:
    """(..., n, C) as (..., count, C): pixel centres of the new row lie between those of the old one."""
    old = x.shape[-2]
    place = (torch.arange(count, device=x.device, dtype=x.dtype) + 0.5) * old / count - 0.5
    place = place.clamp(0, old - 1)
    before = place.floor().long()
    after = (before + 1).clamp(max=old - 1)
    return slerp(x[..., before, :], x[..., after, :], (place - before)[:, None])
