"""How pictures and latents are made larger or smaller."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image as Pictures
from torch import Tensor

from limner.diffusion.planes import middle
from limner.nodes.slerp import bislerp

METHODS = ("nearest-exact", "bilinear", "area", "bicubic", "lanczos")
LATENT_METHODS = ("nearest-exact", "bilinear", "area", "bicubic", "bislerp")
CROPS = ("disabled", "center")

WHOLE_PICTURES = (1, 3, 4)
"""Numbers of channels that Pillow takes as one picture; of four, the last is alpha, and colours count by it."""


def scale(image: Tensor, width: int, height: int, method: str, crop: str = "disabled") -> Tensor:
    """A picture (B, H, W, C) in another size. Lanczos works on 8-bit values; bicubic may leave 0..1 a little."""
    return scale_planes(image.movedim(-1, 1), width, height, method, crop).movedim(1, -1)


def scale_planes(planes: Tensor, width: int, height: int, method: str, crop: str = "disabled") -> Tensor:
    """Planes (B, C, [t,] H, W) in another size. crop "center": the middle is taken rather than proportions changed."""
    if planes.ndim == 5:
        frames = planes.movedim(2, 1)
        scaled = scale_planes(frames.flatten(0, 1), width, height, method, crop)
        return scaled.reshape(*frames.shape[:3], height, width).movedim(1, 2)
    if crop == "center":
        planes = middle(planes, width, height)
    if method == "lanczos":
        return torch.stack([_lanczos(item, width, height) for item in planes]).to(planes.device)
    if method == "bislerp":
        return bislerp(planes, width, height)
    return F.interpolate(planes, size=(height, width), mode=method)


def scale_masks(masks: Tensor, width: int, height: int) -> Tensor:
    """Masks (B, H, W) in another size, bilinear."""
    if masks.shape[-2:] == (height, width):
        return masks
    return F.interpolate(masks[:, None], size=(height, width), mode="bilinear")[:, 0]


def fitting_size(image: Tensor, width: int, height: int) -> tuple[int, int]:
    """The wanted size, with an edge of 0 replaced by what keeps the proportions of a picture (B, H, W, C)."""
    now_height, now_width = image.shape[1:3]
    if not width:
        return max(1, round(now_width * height / now_height)), height
    if not height:
        return width, max(1, round(now_height * width / now_width))
    return width, height


def _lanczos(item: Tensor, width: int, height: int) -> Tensor:
    """One picture (C, H, W) through Pillow, whole where Pillow knows such pictures, else channel by channel."""
    values = item.mul(255).nan_to_num(0).clamp(0, 255).to(torch.uint8).movedim(0, -1).cpu().numpy()
    parts = [values] if values.shape[-1] in WHOLE_PICTURES else np.split(values, values.shape[-1], axis=-1)
    scaled = [
        np.asarray(
            Pictures.fromarray(part.squeeze(-1) if part.shape[-1] == 1 else np.ascontiguousarray(part)).resize(
                (width, height), Pictures.Resampling.LANCZOS
            )
        ).reshape(height, width, -1)
        for part in parts
    ]
    return torch.from_numpy(np.concatenate(scaled, axis=-1)).movedim(-1, 0).float() / 255
