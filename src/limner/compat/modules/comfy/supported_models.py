"""Families by the classes that packs compare `model.model.model_config` with."""

from __future__ import annotations

from limner.compat.kinds import of_kind
from limner.compat.modules.comfy import supported_models_base as supported_models_base
from limner.models.known_base import ModelConfig

FAMILIES = {
    "SD15": "sd15",
    "SD20": "sd2",
    "SD21UnclipL": "unclip",
    "SDXL": "sdxl",
    "SDXLRefiner": "sdxl_refiner",
    "SD3": "sd3",
    "Flux": "flux",
    "Lumina2": "z_image",
    "GenmoMochi": "mochi",
    "HunyuanDiT": "hunyuan_dit",
    "SVD_img2vid": "svd",
    "PixArtAlpha": "pixart",
    "AuraFlow": "aura_flow",
}
"""The last ones are of no family here: nothing is of these classes."""


def _of(name: str, family: str) -> type:
    return of_kind(name, ModelConfig, "comfy.supported_models", lambda each: each.family == family)


globals().update({name: _of(name, family) for name, family in FAMILIES.items()})
models = [globals()[name] for name in FAMILIES]
