"""Writes the networks as one fp16 file with the keys of a Stable Diffusion 1.x checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from .common import LENGTH, PIXELS, SCALE, TEXT_WIDTH, UNET_HEADS, UNET_WIDTHS, VAE_GROUPS, VAE_WIDTHS, encode
from .data import Data
from .unet import load_unet, load_vae

RESNET = {
    "norm1.": "in_layers.0.",
    "conv1.": "in_layers.2.",
    "time_emb_proj.": "emb_layers.1.",
    "norm2.": "out_layers.0.",
    "conv2.": "out_layers.3.",
    "conv_shortcut.": "skip_connection.",
}
LARGEST = 15_000_000


def unet_prefixes(levels: int, resnets: int = 1) -> dict[str, str]:
    """Prefixes in diffusers' UNet -> prefixes in the checkpoint, for attention on every level."""
    out = {
        "time_embedding.linear_1.": "time_embed.0.",
        "time_embedding.linear_2.": "time_embed.2.",
        "conv_in.": "input_blocks.0.0.",
        "conv_norm_out.": "out.0.",
        "conv_out.": "out.2.",
        "mid_block.resnets.0.": "middle_block.0.",
        "mid_block.attentions.0.": "middle_block.1.",
        "mid_block.resnets.1.": "middle_block.2.",
    }
    block = 1
    for level in range(levels):
        for resnet in range(resnets):
            out[f"down_blocks.{level}.resnets.{resnet}."] = f"input_blocks.{block}.0."
            out[f"down_blocks.{level}.attentions.{resnet}."] = f"input_blocks.{block}.1."
            block += 1
        if level < levels - 1:
            out[f"down_blocks.{level}.downsamplers.0.conv."] = f"input_blocks.{block}.0.op."
            block += 1
    block = 0
    for level in range(levels):
        for resnet in range(resnets + 1):
            out[f"up_blocks.{level}.resnets.{resnet}."] = f"output_blocks.{block}.0."
            out[f"up_blocks.{level}.attentions.{resnet}."] = f"output_blocks.{block}.1."
            if level < levels - 1 and resnet == resnets:
                out[f"up_blocks.{level}.upsamplers.0.conv."] = f"output_blocks.{block}.2.conv."
            block += 1
    return out


def unet_keys(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A UNet's weights under the checkpoint's names."""
    prefixes = unet_prefixes(len(UNET_WIDTHS))
    out = {}
    for key, value in state.items():
        prefix = next(p for p in prefixes if key.startswith(p))
        rest = key.removeprefix(prefix)
        if ".resnets." in prefix:
            part = next(p for p in RESNET if rest.startswith(p))
            rest = RESNET[part] + rest.removeprefix(part)
        out[prefixes[prefix] + rest] = value
    return out


def vae_keys(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A VAE's weights under the checkpoint's names (a VAE without attention)."""
    levels = len(VAE_WIDTHS)
    names = {"conv_norm_out.": "norm_out.", "conv_shortcut.": "nin_shortcut."}
    names |= {"mid_block.resnets.0.": "mid.block_1.", "mid_block.resnets.1.": "mid.block_2."}
    for level in range(levels):
        names[f"down_blocks.{level}.resnets."] = f"down.{level}.block."
        names[f"down_blocks.{level}.downsamplers.0."] = f"down.{level}.downsample."
        names[f"up_blocks.{level}.resnets."] = f"up.{levels - 1 - level}.block."
        names[f"up_blocks.{level}.upsamplers.0."] = f"up.{levels - 1 - level}.upsample."
    out = {}
    for key, value in state.items():
        name = key
        for old, new in names.items():
            name = name.replace(old, new)
        out[name] = value
    return out


def latent_colours(latents: Tensor, pictures: Tensor) -> list[list[float]]:
    """The best linear guess at colours from latents, for previews: a row of RGB for each channel, then the bias."""
    known = latents.permute(0, 2, 3, 1).reshape(-1, latents.shape[1])
    wanted = functional.adaptive_avg_pool2d(pictures, latents.shape[-2:]).permute(0, 2, 3, 1).reshape(-1, 3)
    known = torch.cat([known, torch.ones(len(known), 1)], 1)
    return [[round(float(value), 4) for value in row] for row in torch.linalg.lstsq(known, wanted).solution]


def export(work: Path, data: Data, vae_name: str, target: Path) -> int:
    """Writes the checkpoint and returns its size in bytes."""
    unet, text = load_unet(work, data)
    vae = load_vae(work, vae_name)
    weights = {f"model.diffusion_model.{key}": value for key, value in unet_keys(unet.state_dict()).items()}
    weights |= {f"first_stage_model.{key}": value for key, value in vae_keys(vae.state_dict()).items()}
    for key, value in text.state_dict().items():
        if "position_ids" not in key:
            weights[f"cond_stage_model.transformer.text_model.{key.removeprefix('text_model.')}"] = value
    weights = {key: value.half().contiguous() for key, value in weights.items()}
    ids = sorted(data.rows, key=data.rows.__getitem__)
    weights["cond_stage_model.token_ids"] = torch.tensor(ids, dtype=torch.int32)  # of rows 1, 2, ...
    weights["v_pred"] = torch.zeros(0)
    config = {
        "vae": {"norm_num_groups": VAE_GROUPS},
        "unet": {"num_heads": UNET_HEADS},
        "text": {"max_length": LENGTH, "num_heads": TEXT_WIDTH // 64},
        "native_size": PIXELS,
        "latent_rgb": latent_colours(encode(vae, data.pictures) * SCALE, data.pictures),
        "concepts": [concept.names[0] for concept in data.concepts],
    }
    metadata = {
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.architecture": "limner-tiny-v1",
        "modelspec.prediction_type": "v",
        "modelspec.title": "Limner demo",
        "modelspec.license": "Apache-2.0",
        "modelspec.resolution": f"{PIXELS}x{PIXELS}",
        "limner.config": json.dumps(config),
    }
    save_file(weights, target, metadata)
    target.chmod(0o644)
    size = target.stat().st_size
    if size > LARGEST:
        raise ValueError(f"{target} has {size} bytes, more than {LARGEST}")
    return size
