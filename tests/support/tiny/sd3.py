"""Small transformers of Stable Diffusion 3 with random weights, in files as the real ones come."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers.models.transformers.transformer_sd3 import SD3Transformer2DModel
from torch import Tensor

from limner.models.flow.sd3_layout import key_map
from limner.models.flow.tables import PREFIX
from tests.support.tiny import checkpoints, layout
from tests.support.tiny.flux import halved
from tests.support.tiny.text_encoders import SPIECE, clip, clip_weights, t5


@dataclass(frozen=True, kw_only=True)
class Sd3Size:
    """How large it is. dual: layers with a second attention. norm: whether q and k are normed. edge: of its places.

    The text is as wide as the CLIPs beside each other, and as T5.
    """

    hidden: int = 128
    depth: int = 3
    context: int = 128
    vector: int = 128
    edge: int = 16
    dual: tuple[int, ...] = ()
    norm: bool = False


SD3 = Sd3Size()
MEDIUM = Sd3Size(dual=(0, 1), norm=True)
"""Like 3.5 medium."""


def config(size: Sd3Size) -> dict[str, Any]:
    return {
        "patch_size": 2,
        "in_channels": 16,
        "out_channels": 16,
        "num_layers": size.depth,
        "attention_head_dim": 64,
        "num_attention_heads": size.hidden // 64,
        "joint_attention_dim": size.context,
        "caption_projection_dim": size.hidden,
        "pooled_projection_dim": size.vector,
        "pos_embed_max_size": size.edge,
        "dual_attention_layers": size.dual,
        "qk_norm": "rms_norm" if size.norm else None,
    }


def network(size: Sd3Size = SD3) -> SD3Transformer2DModel:
    torch.manual_seed(2)
    made: SD3Transformer2DModel = halved(SD3Transformer2DModel(**config(size)).eval())
    places = made.pos_embed.pos_embed
    places.copy_(torch.randn(places.shape).half())
    return made


def keys(made: SD3Transformer2DModel, prefix: str = "") -> dict[str, Tensor]:
    """Its weights in the original layout."""
    weights = made.state_dict()
    named = key_map(weights, made.config)
    return {
        f"{prefix}{key.removeprefix(PREFIX)}": named.gather_from(weights.__getitem__, key).contiguous() for key in named
    }


def save_sd3(path: Path, size: Sd3Size = SD3, *, prefix: str = "model.diffusion_model.") -> Path:
    """A transformer in a file of its own, which has the prefix all the same."""
    return checkpoints.save(path, keys(network(size), prefix))


def save_sd3_checkpoint(path: Path, size: Sd3Size = SD3, *, with_t5: bool = True) -> Path:
    """All parts in one file, as CheckpointLoaderSimple reads it."""
    weights = keys(network(size), "model.diffusion_model.")
    vae = layout.networks(checkpoints.FLUX_VAE).vae.state_dict()
    weights |= {f"first_stage_model.{key}": each for key, each in layout.vae_keys(checkpoints.FLUX_VAE, vae)}
    for name in ("clip_l", "clip_g"):
        weights |= clip_weights(clip(name), "transformers", f"text_encoders.{name}.transformer.")
    if with_t5:
        told = {key: each for key, each in t5(width=128).state_dict().items() if key != "encoder.embed_tokens.weight"}
        told["spiece_model"] = torch.frombuffer(bytearray(SPIECE.read_bytes()), dtype=torch.uint8)
        weights |= {f"text_encoders.t5xxl.transformer.{key}": each for key, each in told.items()}
    return checkpoints.save(path, weights)
