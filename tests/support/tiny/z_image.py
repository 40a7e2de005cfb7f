"""Small transformers of Z-Image with random weights, in files as the real ones come."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers.models.transformers.transformer_z_image import ZImageTransformer2DModel
from torch import Tensor

from limner.models.flow.tables import PREFIX
from limner.models.flow.z_image_layout import PLACES, key_map
from tests.support.tiny import checkpoints
from tests.support.tiny.flux import halved


@dataclass(frozen=True, kw_only=True)
class ZImageSize:
    """How large it is."""

    hidden: int = 96
    head: int = 32
    depth: int = 2
    refiners: int = 1
    context: int = 64


Z_IMAGE = ZImageSize()


def config(size: ZImageSize) -> dict[str, Any]:
    return {
        "in_channels": 16,
        "dim": size.hidden,
        "n_layers": size.depth,
        "n_refiner_layers": size.refiners,
        "n_heads": size.hidden // size.head,
        "n_kv_heads": size.hidden // size.head,
        "cap_feat_dim": size.context,
        "axes_dims": [size.head // 4, size.head * 3 // 8, size.head * 3 // 8],
        "axes_lens": list(PLACES),
    }


def network(size: ZImageSize = Z_IMAGE) -> ZImageTransformer2DModel:
    torch.manual_seed(4)
    made: ZImageTransformer2DModel = halved(ZImageTransformer2DModel(**config(size)).eval())
    return made


def keys(made: ZImageTransformer2DModel, prefix: str = "") -> dict[str, Tensor]:
    """Its weights in the original layout, with a norm that is of no use, as some files have it."""
    weights = made.state_dict()
    named = key_map(weights, made.config)
    found = {key.removeprefix(PREFIX): named.gather_from(weights.__getitem__, key).contiguous() for key in named}
    found["norm_final.weight"] = torch.ones(made.config["dim"])
    return {f"{prefix}{key}": each for key, each in found.items()}


def save_z_image(path: Path, size: ZImageSize = Z_IMAGE, *, prefix: str = "") -> Path:
    """A transformer in a file of its own, for UNETLoader."""
    return checkpoints.save(path, keys(network(size), prefix))
