"""Small Flux.1 transformers with random weights, in files as the real ones come."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel
from torch import Tensor, nn

from limner.models.flow.flux_layout import key_map
from limner.models.flow.tables import PREFIX
from tests.support.tiny import checkpoints, layout
from tests.support.tiny.text_encoders import SPIECE, clip, clip_weights, t5


@dataclass(frozen=True, kw_only=True)
class FluxSize:
    """How large it is. channels: of what it takes. guidance: whether it was distilled with it, as dev was."""

    hidden: int = 64
    head: int = 32
    double: int = 2
    single: int = 2
    context: int = 128
    vector: int = 64
    channels: int = 16
    guidance: bool = True


DEV = FluxSize()


def config(size: FluxSize) -> dict[str, Any]:
    return {
        "in_channels": 4 * size.channels,
        "out_channels": 64,
        "num_layers": size.double,
        "num_single_layers": size.single,
        "attention_head_dim": size.head,
        "num_attention_heads": size.hidden // size.head,
        "joint_attention_dim": size.context,
        "pooled_projection_dim": size.vector,
        "guidance_embeds": size.guidance,
        "axes_dims_rope": (size.head // 8, size.head * 7 // 16, size.head * 7 // 16),
    }


def network(size: FluxSize = DEV) -> FluxTransformer2DModel:
    torch.manual_seed(1)
    made = FluxTransformer2DModel(**config(size)).eval()
    return halved(made)


def halved(made: nn.Module) -> Any:
    """The network with uneven weights that half precision holds exactly, so that a file of it loses nothing."""
    for weight in made.parameters():
        nn.init.normal_(weight, mean=float(weight.ndim == 1) / 4, std=0.08)
        weight.data = weight.data.half().float()
        weight.requires_grad_(False)
    return made


def keys(made: FluxTransformer2DModel, prefix: str = "") -> dict[str, Tensor]:
    """Its weights in the layout of Black Forest Labs."""
    named = key_map(made.state_dict(), made.config)
    return {f"{prefix}{key.removeprefix(PREFIX)}": named.gather(made, key).contiguous() for key in named}


def save_flux(path: Path, size: FluxSize = DEV, *, prefix: str = "") -> Path:
    """A transformer in a file of its own, for UNETLoader."""
    return checkpoints.save(path, keys(network(size), prefix))


def save_flux_checkpoint(path: Path, size: FluxSize = DEV) -> Path:
    """All three parts in one file, as CheckpointLoaderSimple reads it."""
    weights = keys(network(size), "model.diffusion_model.")
    vae = layout.networks(checkpoints.FLUX_VAE).vae.state_dict()
    weights |= {f"vae.{key}": each for key, each in layout.vae_keys(checkpoints.FLUX_VAE, vae)}
    weights |= clip_weights(clip("clip_l"), "transformers", "text_encoders.clip_l.transformer.")
    told = {key: each for key, each in t5(width=128).state_dict().items() if key != "encoder.embed_tokens.weight"}
    told["spiece_model"] = torch.frombuffer(bytearray(SPIECE.read_bytes()), dtype=torch.uint8)
    weights |= {f"text_encoders.t5xxl.transformer.{key}": each for key, each in told.items()}
    return checkpoints.save(path, weights)
