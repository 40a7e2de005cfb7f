"""How pictures are made larger or smaller."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from PIL import Image as Pictures
from torch import Tensor

METHODS = ("nearest-exact", "bilinear", "area", "bicubic", "lanczos")


def scale(image: Tensor, width: int, height: int, method: str) -> Tensor:
    """A picture (B, H, W, C) in another size. Lanczos works on 8-bit values; bicubic may leave 0..1 a little."""
    if method == "lanczos":
        return torch.stack([_lanczos(item, width, height) for item in image])
    return F.interpolate(image.movedim(-1, 1), size=(height, width), mode=method).movedim(1, -1)


def fitting_size(image: Tensor, width: int, height: int) -> tuple[int, int]:
    """The wanted size, with an edge of 0 replaced by what keeps the picture's proportions."""
    now_height, now_width = image.shape[1:3]
    if not width:
        return max(1, round(now_width * height / now_height)), height
    if not height:
        return width, max(1, round(now_height * width / now_width))
    return width, height


def cut_to_proportions(image: Tensor, width: int, height: int) -> Tensor:
    """The middle of a picture, as large as its proportions equal width : height; at least a pixel is left."""
    now_height, now_width = image.shape[1:3]
    now, wanted = now_width / now_height, width / height
    left = round((now_width - now_width * (wanted / now)) / 2) if now > wanted else 0
    top = round((now_height - now_height * (now / wanted)) / 2) if now < wanted else 0
    left, top = min(left, (now_width - 1) // 2), min(top, (now_height - 1) // 2)
    return image[:, top : now_height - top, left : now_width - left]


def _lanczos(item: Tensor, width: int, height: int) -> Tensor:
    """One picture (H, W, C) through Pillow, channel by channel."""
    channels = item.mul(255).clamp(0, 255).to(torch.uint8).unbind(-1)
    scaled = [
        torch.frombuffer(
            bytearray(
                Pictures.fromarray(channel.contiguous().numpy())
                .resize((width, height), Pictures.Resampling.LANCZOS)
                .tobytes()
            ),
            dtype=torch.uint8,
        ).reshape(height, width)
        for channel in channels
    ]
    return torch.stack(scaled, dim=-1).float() / 255
