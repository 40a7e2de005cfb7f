"""Base models by the classes that packs ask for, and what packs use of their making."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from limner.compat.kinds import of_kind
from limner.compat.unoffered import no_class
from limner.diffusion.embedding import sinusoidal
from limner.errors import UnfitInput
from limner.models.known_base import ModelType as ModelType
from limner.models.model import BaseModel as _Base

MODULE = "comfy.model_base"

BaseModel = of_kind("BaseModel", _Base, MODULE)

FAMILIES = {
    "SDXL": ("sdxl",),
    "SDXLRefiner": ("sdxl_refiner",),
    "SD21UNCLIP": ("unclip",),
    "SD3": ("sd3",),
    "Flux": ("flux",),
    "Lumina2": ("z_image",),
}
"""Classes of base models, and the families here that they are for."""


def _of(name: str, families: tuple[str, ...]) -> type:
    return of_kind(name, _Base, MODULE, lambda each: each.architecture.name in families)


globals().update({name: _of(name, families) for name, families in FAMILIES.items()})
SDXL_instructpix2pix = of_kind(
    "SDXL_instructpix2pix", _Base, MODULE, lambda each: each.architecture.name == "sdxl" and each.in_channels == 8
)
CosmosPredict2 = no_class(MODULE, "CosmosPredict2")
CLIPEmbeddingNoiseAugmentation = no_class(MODULE, "CLIPEmbeddingNoiseAugmentation")


class Timestep(nn.Module):
    """Numbers (N,) as waves, (N, dim)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, t: Tensor) -> Tensor:
        return sinusoidal(t, self.dim)


def sdxl_pooled(args: Mapping[str, Any], noise_augmentor: Any) -> Tensor:
    """The pooled vector of a conditioning, of the width that SDXL takes. Raises UnfitInput where there is none."""
    if "unclip_conditioning" in args:
        raise UnfitInput("Limner joins pictures to SDXL's vector itself; sdxl_pooled is for conditionings without them")
    pooled = args.get("pooled_output")
    if pooled is None:
        raise UnfitInput("the conditioning has no pooled_output; encode the prompt with SDXL's text encoders")
    vector: Tensor = pooled
    return vector


def convert_tensor(extra: Any, dtype: torch.dtype, device: Any) -> Any:
    """A tensor on a device, in a precision unless it holds whole numbers; all else as it is."""
    if not isinstance(extra, Tensor):
        return extra
    return extra.to(device=device, dtype=dtype) if extra.is_floating_point() else extra.to(device=device)
