"""InpaintModelConditioning: what inpainting models are shown of the picture they paint into."""

from __future__ import annotations

from typing import Annotated

from limner.diffusion.conditioning import Conditioning as ConditioningValue
from limner.diffusion.latents import Latent
from limner.graph.node import node
from limner.graph.types import Flag
from limner.nodes.conditioning.changing import with_extras
from limner.nodes.inpainting import cut_to_places, greyed
from limner.nodes.sockets import Conditioning, Image, Mask, Vae


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
    pixels, masks = cut_to_places(pixels, mask, vae.latents.stride)
    shown = vae.encode(greyed(pixels, masks))
    latent: Latent = {"samples": vae.encode(pixels)}
    if noise_mask:
        latent["noise_mask"] = masks
    extras = {"concat_latent_image": shown, "concat_mask": masks}
    return with_extras(positive, extras), with_extras(negative, extras), latent
