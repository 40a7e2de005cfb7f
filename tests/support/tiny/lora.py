"""LoRA files with random weights."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

ENDS = {
    "kohya": (".lora_up.weight", ".lora_down.weight"),
    "diffusers": (".lora_B.weight", ".lora_A.weight"),
    "old diffusers": (".lora.up.weight", ".lora.down.weight"),
    "processors": ("_lora.up.weight", "_lora.down.weight"),
}

SD15 = {
    "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k": (64, 64),
    "lora_unet_mid_block_resnets_0_conv1": (128, 128, 3, 3),
    "lora_te_text_model_encoder_layers_0_mlp_fc1": (128, 64),
}
"""Some modules of `checkpoints.SD15`, and the shapes of their weights."""


def low_rank(shape: tuple[int, ...], rank: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """The up and the down of a change to a weight of this shape."""
    draw = torch.Generator().manual_seed(seed + prod(shape))
    ones = (1,) * (len(shape) - 2)
    up = torch.randn(shape[0], rank, *ones, generator=draw)
    return up, torch.randn(rank, *shape[1:], generator=draw) / shape[1] ** 0.5


def save_lora(
    path: Path,
    shapes: Mapping[str, tuple[int, ...]] = SD15,
    *,
    style: str = "kohya",
    rank: int = 4,
    alpha: float | None = 2.0,
    seed: int = 0,
) -> Path:
    """A LoRA for the modules of these names, whose weights have these shapes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    weights: dict[str, Tensor] = {}
    for name, shape in shapes.items():
        up, down = low_rank(shape, rank, seed)
        weights |= {f"{name}{ENDS[style][0]}": up, f"{name}{ENDS[style][1]}": down}
        if alpha is not None:
            weights[f"{name}.alpha"] = torch.tensor(alpha)
    save_file(weights, path)
    return path
