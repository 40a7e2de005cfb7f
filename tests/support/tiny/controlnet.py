"""Control networks with random weights, for tiny models of each family."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers.models.adapter import T2IAdapter
from diffusers.models.controlnets.controlnet import ControlNetModel
from diffusers.models.controlnets.controlnet_union import ControlNetUnionModel
from safetensors.torch import save_file
from torch import nn

from limner.models.controlnet.layout import key_map

HINTS = (16, 16, 32, 32)

SD15: dict[str, Any] = {
    "block_out_channels": (64, 128),
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "layers_per_block": 1,
    "cross_attention_dim": 64,
    "attention_head_dim": 8,
    "conditioning_embedding_out_channels": HINTS,
}
"""For `checkpoints.SD15`."""

SDXL: dict[str, Any] = {
    "block_out_channels": (64, 64, 64),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "layers_per_block": 1,
    "transformer_layers_per_block": (2, 2, 2),
    "cross_attention_dim": 128,
    "attention_head_dim": (1, 1, 1),
    "use_linear_projection": True,
    "class_embed_type": "projection",
    "projection_class_embeddings_input_dim": 64 + 6 * 256,
    "conditioning_embedding_out_channels": HINTS,
}
"""For `checkpoints.SDXL`."""

DEEPER: dict[str, Any] = {
    **SD15,
    "block_out_channels": (64, 128, 128),
    "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
}
"""A level more than `SD15`, which ends in two of one width, as the models in use do."""

UNION: dict[str, Any] = {"num_control_type": 8, "num_trans_channel": 64, "num_proj_channel": 64}


def controlnet(size: dict[str, Any] = SD15, *, union: bool = False) -> Any:
    """A network whose last layers are not zero, as a trained one's."""
    torch.manual_seed(0)
    if union:
        network: Any = ControlNetUnionModel(**size, **UNION, addition_time_embed_dim=256)
    else:
        network = ControlNetModel(**size)
    ends = [network.controlnet_mid_block, *network.controlnet_down_blocks, network.controlnet_cond_embedding.conv_out]
    for end in [*ends, *([network.spatial_ch_projs] if union else [])]:
        nn.init.normal_(end.weight, std=0.05)
        nn.init.normal_(end.bias, std=0.05)
    return network.eval().requires_grad_(False)


def save_controlnet(
    path: Path,
    size: dict[str, Any] = SD15,
    *,
    layout: str = "original",
    prefix: str = "control_model.",
    union: bool = False,
) -> Path:
    """A control network in the original layout, behind a prefix, or in that of diffusers."""
    path.parent.mkdir(parents=True, exist_ok=True)
    network = controlnet(size, union=union)
    weights = network.state_dict()
    if layout == "diffusers":
        saved = {key.replace("class_embedding.", "add_embedding."): each for key, each in weights.items()}
    else:
        keys = key_map(weights, {**network.config})
        saved = {prefix + key.removeprefix("control_model."): keys.gather(network, key) for key in keys}
    save_file({key: each.contiguous() for key, each in saved.items()}, path)
    return path


def save_control_lora(path: Path, size: dict[str, Any] = SD15) -> Path:
    """A Control-LoRA: small products for the matrices and kernels that it shares with a UNet, the others whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    network = controlnet(size)
    keys = key_map(network.state_dict(), {**network.config})
    draw = torch.Generator().manual_seed(5)
    saved = {"lora_controlnet": torch.zeros(0)}
    for key in keys:
        name, weight = key.removeprefix("control_model."), keys.gather(network, key)
        if not name.startswith(("input_blocks.", "middle_block.", "time_embed.", "label_emb.")):
            saved[name] = weight.clone()
        elif name.endswith(".weight") and weight.ndim > 1:
            ones, module = (1,) * (weight.ndim - 2), name.removesuffix(".weight")
            saved[f"{module}.up"] = torch.randn(weight.shape[0], 2, *ones, generator=draw) / 8
            saved[f"{module}.down"] = torch.randn(2, *weight.shape[1:], generator=draw) / 8
    save_file(saved, path)
    return path


def adapter(kind: str = "full_adapter") -> T2IAdapter:
    """An adapter for SD15; "light_adapter" is for DEEPER, "full_adapter_xl" for SDXL."""
    torch.manual_seed(0)
    channels = {"full_adapter": [64, 128], "light_adapter": [64, 128], "full_adapter_xl": [64, 64, 64]}[kind]
    made = T2IAdapter(
        in_channels=3,
        channels=channels,
        num_res_blocks=4 if kind == "light_adapter" else 2,
        downscale_factor=16 if kind == "full_adapter_xl" else 8,
        adapter_type=kind,
    )
    return made.eval().requires_grad_(False)


def save_adapter(path: Path, kind: str = "full_adapter") -> Path:
    """A T2I-Adapter in diffusers' layout."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(adapter(kind).state_dict(), path)
    return path
