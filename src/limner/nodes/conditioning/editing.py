"""InstructPixToPixConditioning: what models that follow instructions are shown of the picture to change."""

from __future__ import annotations

import torch

from limner.diffusion.conditioning import Conditioning as ConditioningValue
from limner.diffusion.latents import Latent
from limner.graph.node import node
from limner.nodes.conditioning.changing import with_extras
from limner.nodes.sockets import Conditioning, Image, Vae


@node(
    "InstructPixToPixConditioning",
    category="conditioning/instructpix2pix",
    module="comfy_extras.nodes_ip2p",
    schema_style=True,
    outputs={"positive": "CONDITIONING", "negative": "CONDITIONING", "latent": "LATENT"},
)
def instruct_pix_to_pix(
    *, positive: Conditioning, negative: Conditioning, vae: Vae, pixels: Image
) -> tuple[ConditioningValue, ConditioningValue, Latent]:
    """Shows an editing model (InstructPix2Pix, CosXL Edit) the picture to change; the latent is empty, of its size.

    For a scale of its own for the picture, put both answers into DualCFGGuider, with the plain negative as `negative`.
    """
    shown = vae.encode(pixels)
    extras = {"concat_latent_image": shown}
    return with_extras(positive, extras), with_extras(negative, extras), {"samples": torch.zeros_like(shown)}
