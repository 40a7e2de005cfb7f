"""InpaintModelConditioning: what inpainting models are shown of the picture they paint into."""

from __future__ import annotations

from typing import Annotated

import torch.nn.functional as F

from limner.diffusion.conditioning import Conditioning as ConditioningValue
from limner.diffusion.conditioning import fit_batch
from limner.diffusion.latents import Latent
from limner.errors import UnfitInput
from limner.graph.node import node
from limner.graph.types import Flag
from limner.nodes.conditioning.changing import with_extras
from limner.nodes.sockets import Conditioning, Image, Mask, Vae

GREY = 0.5


@node(
    "InpaintModelConditioning",
    category="conditioning/inpaint",
    outputs={"positive": "CONDITIONING", "negative": "CONDITIONING", "latent": "LATENT"},
)
def inpaint_model_conditioning(
    *,
    positive: Conditioning,
    negative: Conditioning,
    vae: Vae,
    pixels: Image,
    mask: Mask,
    noise_mask: Annotated[bool, Flag()] = True,
) -> tuple[ConditioningValue, ConditioningValue, Latent]:
    """Shows an inpainting model the picture with the masked part greyed out, and the mask.

    noise_mask: the latent keeps what the mask leaves out exactly as it was.
    """
    stride = vae.latents.stride
    height, width = (edge // stride * stride for edge in pixels.shape[1:3])
    if not height or not width:
        raise UnfitInput(
            f"a picture of {pixels.shape[2]}x{pixels.shape[1]} is too small: {stride}x{stride} is the least"
        )
    if mask.numel() == 0 or mask.ndim < 2:
        raise UnfitInput(f"the mask has the shape {tuple(mask.shape)}; (batch, height, width) is wanted")
    masks = F.interpolate(mask.reshape(-1, 1, *mask.shape[-2:]).float(), size=pixels.shape[1:3], mode="bilinear")
    if len(masks) > 1:
        masks = fit_batch(masks, len(pixels))
    top, left = (pixels.shape[1] - height) // 2, (pixels.shape[2] - width) // 2
    pixels = pixels[:, top : top + height, left : left + width]
    masks = masks[..., top : top + height, left : left + width]
    kept = (1 - masks.round()).movedim(1, -1)
    shown = vae.encode((pixels - GREY) * kept + GREY)
    latent: Latent = {"samples": vae.encode(pixels)}
    if noise_mask:
        latent["noise_mask"] = masks
    extras = {"concat_latent_image": shown, "concat_mask": masks}
    return with_extras(positive, extras), with_extras(negative, extras), latent
