"""Pictures whose masked part is to be painted anew, as they go through a VAE."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from limner.diffusion.conditioning import fit_batch
from limner.errors import UnfitInput

GREY = 0.5


def cut_to_places(pixels: Tensor, mask: Tensor, stride: int) -> tuple[Tensor, Tensor]:
    """The middle of pictures (B, H, W, C) that fills whole places of a latent, and masks (B or 1, 1, H, W) of its size.

    mask: (H, W), (B, H, W) or (B, 1, H, W) of any size. stride: edge of a place in pixels. Raises UnfitInput.
    """
    if pixels.ndim != 4 or mask.numel() == 0 or mask.ndim < 2:
        raise UnfitInput(
            f"the mask has the shape {tuple(mask.shape)} and the picture {tuple(pixels.shape)}; (batch, height, width) "
            "and (batch, height, width, channels) are wanted"
        )
    height, width = (edge // stride * stride for edge in pixels.shape[1:3])
    if not height or not width:
        raise UnfitInput(
            f"a picture of {pixels.shape[2]}x{pixels.shape[1]} is too small: {stride}x{stride} is the least"
        )
    masks = F.interpolate(mask.reshape(-1, 1, *mask.shape[-2:]).float(), size=pixels.shape[1:3], mode="bilinear")
    if len(masks) > 1:
        masks = fit_batch(masks, len(pixels))
    top, left = (pixels.shape[1] - height) // 2, (pixels.shape[2] - width) // 2
    return (
        pixels[:, top : top + height, left : left + width, :3],
        masks[..., top : top + height, left : left + width],
    )


def greyed(pixels: Tensor, masks: Tensor) -> Tensor:
    """Pictures (B, H, W, C), grey wherever a mask (B or 1, 1, H, W) is more than a half."""
    return (pixels - GREY) * (1 - masks.round()).movedim(1, -1) + GREY
