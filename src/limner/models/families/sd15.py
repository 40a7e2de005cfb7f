"""Stable Diffusion 1.x and every model in its layout, of any size, inpainting and editing ones included."""

from __future__ import annotations

from limner.diffusion import formats
from limner.models.checkpoint import Header
from limner.models.unet_family import UNetFamily


class Sd15(UNetFamily):
    """Stable Diffusion 1.x, its fine-tunes, and small models in the same layout: a text encoder of CLIP, 8 heads."""

    name = "sd15"
    title = "Stable Diffusion 1.x"
    text = "sd15"
    latents = formats.SD15

    def has_layout(self, unet: Header, file: Header) -> bool:
        if "label_emb.0.0.weight" in unet or file.has("conditioner."):
            return False
        if file.has("cond_stage_model."):
            return file.has("cond_stage_model.transformer.")
        return len(unet.shape("middle_block.1.proj_in.weight") or ()) == 4
