"""Networks of the Stable Diffusion kind with random weights, of any size, and their keys in the original layout."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from safetensors.torch import save_file
from torch import Tensor
from transformers.models.clip.configuration_clip import CLIPTextConfig
from transformers.models.clip.modeling_clip import CLIPTextModel

RESNET = {
    "norm1.": "in_layers.0.",
    "conv1.": "in_layers.2.",
    "time_emb_proj.": "emb_layers.1.",
    "norm2.": "out_layers.0.",
    "conv2.": "out_layers.3.",
    "conv_shortcut.": "skip_connection.",
}


@dataclass(frozen=True, kw_only=True)
class Size:
    """How large the three networks are. attention: which levels of the UNet look at the text. heads: 0 for 64 channels
    each. inputs: channels that the UNet takes. vector: width of what it takes beside the text."""

    widths: tuple[int, ...] = (64, 128)
    attention: tuple[bool, ...] = (True, False)
    layers: int = 2
    heads: int = 8
    text_width: int = 64
    vocabulary: int = 49408
    vae_widths: tuple[int, ...] = (32, 32, 64, 64)
    vae_attention: bool = True
    linear: bool = False
    inputs: int = 4
    vector: int = 0
    depth: int | tuple[int, ...] = 1
    latent_channels: int = 4
    quant_conv: bool = True


SD15 = Size(
    widths=(320, 640, 1280, 1280), attention=(True, True, True, False), text_width=768, vae_widths=(128, 256, 512, 512)
)


def unet(size: Size) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=8,
        block_out_channels=size.widths,
        layers_per_block=size.layers,
        down_block_types=tuple("CrossAttnDownBlock2D" if each else "DownBlock2D" for each in size.attention),
        up_block_types=tuple("CrossAttnUpBlock2D" if each else "UpBlock2D" for each in reversed(size.attention)),
        cross_attention_dim=size.text_width,
        attention_head_dim=size.heads or tuple(max(1, width // 64) for width in size.widths),
        use_linear_projection=size.linear,
        transformer_layers_per_block=size.depth,
        in_channels=size.inputs,
        class_embed_type="projection" if size.vector else None,
        projection_class_embeddings_input_dim=size.vector or None,
    )


def vae(size: Size) -> AutoencoderKL:
    levels = len(size.vae_widths)
    return AutoencoderKL(
        block_out_channels=size.vae_widths,
        layers_per_block=2 if size == SD15 else 1,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        latent_channels=size.latent_channels,
        use_quant_conv=size.quant_conv,
        use_post_quant_conv=size.quant_conv,
        mid_block_add_attention=size.vae_attention,
    )


def text(size: Size) -> CLIPTextModel:
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=size.vocabulary,
            hidden_size=size.text_width,
            intermediate_size=size.text_width * 4,
            num_hidden_layers=12 if size == SD15 else 2,
            num_attention_heads=max(1, size.text_width // 64),
            max_position_embeddings=77,
            eos_token_id=size.vocabulary - 1,
        )
    )


@dataclass(frozen=True)
class Networks:
    unet: UNet2DConditionModel
    vae: AutoencoderKL
    text: CLIPTextModel


def networks(size: Size, *, empty: bool = False) -> Networks:
    """The three networks with random weights, or without memory for any."""
    if empty:
        with init_empty_weights():
            return Networks(unet(size), vae(size), text(size))
    torch.manual_seed(0)
    return Networks(unet(size).eval(), vae(size).eval(), text(size).eval())


def keys(size: Size, made: Networks) -> dict[str, Tensor]:
    """Their weights under the keys of the SD1.x layout."""
    weights = {f"model.diffusion_model.{key}": each for key, each in unet_keys(size, made.unet.state_dict())}
    weights |= {f"first_stage_model.{key}": each for key, each in vae_keys(size, made.vae.state_dict())}
    text_weights = made.text.state_dict()
    return weights | {f"cond_stage_model.transformer.text_model.{key}": each for key, each in text_weights.items()}


def save(path: Path, weights: dict[str, Tensor], *, config: dict[str, Any] | None = None, **metadata: str) -> Path:
    """A safetensors file of these weights, with `limner.config` in its metadata."""
    told = metadata if config is None else {"limner.config": json.dumps(config), **metadata}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({key: each.contiguous() for key, each in weights.items()}, path, told)
    return path


def unet_keys(size: Size, weights: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    names = _unet_blocks(size)
    for key, weight in weights.items():
        ours = next(prefix for prefix in names if key.startswith(prefix))
        rest = key.removeprefix(ours)
        if ".resnets." in ours:
            part = next(part for part in RESNET if rest.startswith(part))
            rest = RESNET[part] + rest.removeprefix(part)
        yield names[ours] + rest, weight


def _unet_blocks(size: Size) -> dict[str, str]:
    names = {
        "class_embedding.linear_1.": "label_emb.0.0.",
        "class_embedding.linear_2.": "label_emb.0.2.",
        "time_embedding.linear_1.": "time_embed.0.",
        "time_embedding.linear_2.": "time_embed.2.",
        "conv_in.": "input_blocks.0.0.",
        "conv_norm_out.": "out.0.",
        "conv_out.": "out.2.",
        "mid_block.resnets.0.": "middle_block.0.",
        "mid_block.attentions.0.": "middle_block.1.",
        "mid_block.resnets.1.": "middle_block.2.",
    }
    levels, block = len(size.widths), 1
    for level in range(levels):
        for layer in range(size.layers):
            names[f"down_blocks.{level}.resnets.{layer}."] = f"input_blocks.{block}.0."
            names[f"down_blocks.{level}.attentions.{layer}."] = f"input_blocks.{block}.1."
            block += 1
        if level < levels - 1:
            names[f"down_blocks.{level}.downsamplers.0.conv."] = f"input_blocks.{block}.0.op."
            block += 1
    block = 0
    for level, attention in enumerate(reversed(size.attention)):
        for layer in range(size.layers + 1):
            names[f"up_blocks.{level}.resnets.{layer}."] = f"output_blocks.{block}.0."
            names[f"up_blocks.{level}.attentions.{layer}."] = f"output_blocks.{block}.1."
            if layer == size.layers and level < levels - 1:
                names[f"up_blocks.{level}.upsamplers.0.conv."] = f"output_blocks.{block}.{2 if attention else 1}.conv."
            block += 1
    return names


def vae_keys(size: Size, weights: dict[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    levels = len(size.vae_widths)
    names = {"conv_norm_out.": "norm_out.", "conv_shortcut.": "nin_shortcut.", "mid_block.resnets.0.": "mid.block_1."}
    names |= {"mid_block.resnets.1.": "mid.block_2.", "mid_block.attentions.0.": "mid.attn_1."}
    names |= {"group_norm.": "norm.", "to_q.": "q.", "to_k.": "k.", "to_v.": "v.", "to_out.0.": "proj_out."}
    for level in range(levels):
        names[f"encoder.down_blocks.{level}.resnets."] = f"encoder.down.{level}.block."
        names[f"encoder.down_blocks.{level}.downsamplers.0."] = f"encoder.down.{level}.downsample."
        names[f"decoder.up_blocks.{level}.resnets."] = f"decoder.up.{levels - 1 - level}.block."
        names[f"decoder.up_blocks.{level}.upsamplers.0."] = f"decoder.up.{levels - 1 - level}.upsample."
    for key, weight in weights.items():
        theirs = key
        for ours, name in names.items():
            theirs = theirs.replace(ours, name)
        yield theirs, weight[:, :, None, None] if ".attn_1." in theirs and weight.ndim == 2 else weight
