"""Stable Diffusion XL: base, its fine-tunes, Turbo, inpainting and editing models, and the refiner."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from limner.diffusion import formats
from limner.diffusion.embedding import sinusoidal
from limner.diffusion.latents import LatentFormat
from limner.errors import UnfitInput
from limner.models.checkpoint import Header
from limner.models.model import BaseModel
from limner.models.unet_family import UNetFamily, with_own_colours
from limner.models.unet_layout import attention_levels
from limner.models.weights import Weights

WAVES = 256
"""Values that each number about the size is told in."""

SCORES = {"positive": 6.0, "negative": 2.5}
"""How beautiful a picture is to be, 0..10, for the refiner, where the conditioning does not say."""


class Sdxl(UNetFamily):
    """Stable Diffusion XL. Podell et al. 2023, arXiv:2307.01952. Two text encoders, and beside the text their pooled
    vector and six numbers: the size of the original (height, width), where it was cut (top, left), the size to make.
    """

    name = "sdxl"
    title = "Stable Diffusion XL"
    text = "sdxl"
    latents = formats.SDXL
    head_width = 64

    def has_layout(self, unet: Header, file: Header) -> bool:
        if "label_emb.0.0.weight" not in unet:
            return False
        if file.has("conditioner."):
            return file.has("conditioner.embedders.1.")
        levels = attention_levels(unet)
        return not file.has("cond_stage_model.") and levels[:1] == [False] and levels[-1:] == [True]

    def latent_format(self, file: Weights) -> LatentFormat:
        playground = "edm_mean" in file  # Playground 2.5 has a space of its own
        return with_own_colours(formats.PLAYGROUND_2_5 if playground else self.latents, file.header)

    def vector(self, model: BaseModel, facts: Mapping[str, Any]) -> Tensor:
        height, width = sizes(model, facts)
        told = (
            *(facts.get("height", height), facts.get("width", width)),
            *(facts.get("crop_h", 0), facts.get("crop_w", 0)),
            *(facts.get("target_height", height), facts.get("target_width", width)),
        )
        return pooled_with(model, facts, told)


class SdxlRefiner(UNetFamily):
    """The refiner of Stable Diffusion XL: one text encoder, and beside the text its pooled vector and five numbers: the
    original's size, where it was cut, and how beautiful the picture is to be.
    """

    name = "sdxl_refiner"
    title = "the refiner of Stable Diffusion XL"
    text = "refiner"
    latents = formats.SDXL
    head_width = 64

    def has_layout(self, unet: Header, file: Header) -> bool:
        if "label_emb.0.0.weight" not in unet:
            return False
        if file.has("conditioner."):
            return not file.has("conditioner.embedders.1.")
        levels = attention_levels(unet)
        return not file.has("cond_stage_model.") and levels[:1] == [False] and levels[-1:] == [False]

    def vector(self, model: BaseModel, facts: Mapping[str, Any]) -> Tensor:
        height, width = sizes(model, facts)
        told = (
            *(facts.get("height", height), facts.get("width", width)),
            *(facts.get("crop_h", 0), facts.get("crop_w", 0)),
            facts.get("aesthetic_score", SCORES["negative" if facts.get("prompt_type") == "negative" else "positive"]),
        )
        return pooled_with(model, facts, told)


def sizes(model: BaseModel, facts: Mapping[str, Any]) -> tuple[int, int]:
    """Height and width in pixels of what is made."""
    height, width = facts["noise"].shape[-2:]
    return height * model.latent_format.stride, width * model.latent_format.stride


def pooled_with(model: BaseModel, facts: Mapping[str, Any], told: Sequence[float]) -> Tensor:
    """The pooled vector of the text and these numbers behind it, (B or 1, adm_channels). Raises UnfitInput."""
    pooled = facts.get("pooled_output")
    wanted = model.adm_channels - len(told) * WAVES
    if not isinstance(pooled, Tensor) or pooled.ndim != 2 or pooled.shape[1] != wanted:
        has = tuple(pooled.shape) if isinstance(pooled, Tensor) else "none"
        raise UnfitInput(
            f"the conditioning's pooled vector has the shape {has}, {model.name} takes (batch, {wanted}); encode the "
            "prompt with the text encoders of the same checkpoint"
        )
    device = facts["noise"].device
    numbers = sinusoidal(torch.tensor([float(each) for each in told]), WAVES).flatten()
    return torch.cat([pooled.float().to(device), numbers.to(device).expand(len(pooled), -1)], dim=1)
