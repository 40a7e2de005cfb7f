"""Vision networks and style models with random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers.models.clip.configuration_clip import CLIPVisionConfig
from transformers.models.clip.modeling_clip import CLIPVisionModelWithProjection
from transformers.models.siglip.configuration_siglip import SiglipVisionConfig
from transformers.models.siglip.modeling_siglip import SiglipVisionModel

from limner.models.style import Redux, StyleAdapter

SIZE: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 1,
    "image_size": 28,
    "patch_size": 7,
}
IN_BLOCK = {
    "layer_norm1.": "ln_1.",
    "layer_norm2.": "ln_2.",
    "mlp.fc1.": "mlp.c_fc.",
    "mlp.fc2.": "mlp.c_proj.",
    "self_attn.out_proj.": "attn.out_proj.",
}


def clip_vision(projection: int = 64) -> Any:
    torch.manual_seed(0)
    config = CLIPVisionConfig(**SIZE, projection_dim=projection, hidden_act="quick_gelu")
    return CLIPVisionModelWithProjection(config).eval().requires_grad_(False)


def siglip() -> Any:
    torch.manual_seed(0)
    return SiglipVisionModel(SiglipVisionConfig(**SIZE)).eval().requires_grad_(False)


def save_clip_vision(path: Path, *, layout: str = "transformers", projection: int = 64) -> Path:
    """A vision network in the layout of transformers, or in OpenCLIP's behind `visual.`."""
    weights = clip_vision(projection).state_dict()
    return _save(path, weights if layout == "transformers" else open_clip(weights, "visual."))


def save_siglip(path: Path) -> Path:
    return _save(path, {f"vision_model.{key}": each for key, each in siglip().state_dict().items()})


def open_clip(weights: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Weights of `clip_vision` as OpenCLIP writes them."""
    own = {key.removeprefix("vision_model."): each for key, each in weights.items()}
    saved = {
        "class_embedding": own["embeddings.class_embedding"],
        "positional_embedding": own["embeddings.position_embedding.weight"],
        "conv1.weight": own["embeddings.patch_embedding.weight"],
        "proj": own["visual_projection.weight"].T,
    }
    for name, theirs in (("pre_layrnorm.", "ln_pre."), ("post_layernorm.", "ln_post.")):
        saved |= {theirs + end: own[name + end] for end in ("weight", "bias")}
    for layer in range(SIZE["num_hidden_layers"]):
        ours, theirs = f"encoder.layers.{layer}.", f"transformer.resblocks.{layer}."
        for end in ("weight", "bias"):
            saved |= {f"{theirs}{part}{end}": own[f"{ours}{name}{end}"] for name, part in IN_BLOCK.items()}
            parts = [own[f"{ours}self_attn.{each}_proj.{end}"] for each in "qkv"]
            saved[f"{theirs}attn.in_proj_{end}"] = torch.cat(parts)
    return {prefix + key: each for key, each in saved.items()}


def style_adapter(text_width: int = 64) -> StyleAdapter:
    """For `clip_vision`, and a text of this width."""
    torch.manual_seed(0)
    made = StyleAdapter(width=64, text_width=text_width, tokens=4, layers=2)
    nn.init.normal_(made.style_embedding)
    nn.init.normal_(made.proj)
    return made.eval().requires_grad_(False)


def redux(text_width: int = 96) -> Redux:
    torch.manual_seed(0)
    return Redux(width=64, inner=128, text_width=text_width).eval().requires_grad_(False)


def save_style(path: Path, text_width: int = 64) -> Path:
    return _save(path, style_adapter(text_width).state_dict())


def save_redux(path: Path, text_width: int = 96) -> Path:
    return _save(path, redux(text_width).state_dict())


def _save(path: Path, weights: dict[str, Tensor]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({key: each.contiguous() for key, each in weights.items()}, path)
    return path
