"""Stable Diffusion 2.x, and the unCLIP models made of it, which also look at a picture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from limner.diffusion import formats
from limner.diffusion.denoiser import Epsilon, Prediction
from limner.errors import UnfitInput
from limner.models.augmentation import NoiseAugmentation
from limner.models.checkpoint import Header
from limner.models.model import BaseModel
from limner.models.prediction import prediction, second_generation
from limner.models.unet_family import INPAINTING, UNetFamily
from limner.models.unet_layout import attention_levels
from limner.models.weights import Weights


class Sd2(UNetFamily):
    """Stable Diffusion 2.x: a text encoder of OpenCLIP, heads of 64 channels.

    Old files do not say whether they predict the noise or v. See `second_generation`; those for inpainting predict the
    noise. ModelSamplingDiscrete decides otherwise.
    """

    name = "sd2"
    title = "Stable Diffusion 2.x"
    text = "sd2"
    latents = formats.SD15
    head_width = 64

    def has_layout(self, unet: Header, file: Header) -> bool:
        return "label_emb.0.0.weight" not in unet and _of_second_generation(unet, file)

    def prediction(self, file: Weights) -> Prediction:
        first = next((key for key in file if key.endswith(("input_blocks.0.0.weight", "conv_in.weight"))), "")
        inpaints = bool(first) and file.header.size(first, 1) == INPAINTING
        return prediction(file, default=Epsilon if inpaints else second_generation(file))


class Unclip(Sd2):
    """Stable unCLIP: Stable Diffusion 2.1 with a picture, as CLIP sees it, beside the text. Ramesh et al. 2022,
    arXiv:2204.06125; the noise on the picture's encoding as in section 3.1 of Ho et al. 2021, arXiv:2106.15282.
    """

    name = "unclip"
    title = "Stable unCLIP"

    def has_layout(self, unet: Header, file: Header) -> bool:
        if "label_emb.0.0.weight" not in unet or file.has("conditioner."):
            return False
        return _of_second_generation(unet, file) and attention_levels(unet)[:1] == [True]

    def facts(self, file: Weights) -> Mapping[str, Any]:
        return {**super().facts(file), "augmentation": NoiseAugmentation.of(file)}

    def vector(self, model: BaseModel, facts: Mapping[str, Any]) -> Tensor:
        """Each picture's encoding under noise and how much that is, weighted and summed; zeros without pictures."""
        augmentation: NoiseAugmentation = model.facts["augmentation"]
        seen = facts.get("unclip_conditioning") or ()
        total = torch.zeros(1, model.adm_channels, device=facts["noise"].device)
        for number, each in enumerate(seen):
            pictures = each["clip_vision_output"].image_embeds.float()
            if pictures.shape[-1] * 2 != model.adm_channels:
                raise UnfitInput(
                    f"the CLIP vision model tells {pictures.shape[-1]} values of a picture, {model.name} takes "
                    f"{model.adm_channels // 2}; use the vision model of the same checkpoint"
                )
            level = float(each.get("noise_augmentation", 0.0))
            seed = int(facts.get("seed") or 0) + number
            vector = augmentation.noised(pictures, level, seed).mean(dim=0, keepdim=True)
            total = total + vector.to(total) * float(each.get("strength", 1.0))
        return total


def _of_second_generation(unet: Header, file: Header) -> bool:
    if file.has("cond_stage_model."):
        return file.has("cond_stage_model.model.")
    return len(unet.shape("middle_block.1.proj_in.weight") or ()) == 2 and attention_levels(unet)[:1] == [True]
