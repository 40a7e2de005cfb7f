"""Stable Diffusion 3's weights: their sizes from shapes, and what each is called in the original layout.

Files, LoRAs and node packs speak of `joint_blocks.0.x_block.attn.qkv.weight`; diffusers' SD3Transformer2DModel runs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from limner.models.checkpoint import Header
from limner.models.flow.tables import key_map as map_of
from limner.models.flow.tables import repeated
from limner.models.keys import KeyMap

FIXED = {
    "pos_embed": "pos_embed.pos_embed",
    "x_embedder.proj.": "pos_embed.proj.",
    "t_embedder.mlp.0.": "time_text_embed.timestep_embedder.linear_1.",
    "t_embedder.mlp.2.": "time_text_embed.timestep_embedder.linear_2.",
    "y_embedder.mlp.0.": "time_text_embed.text_embedder.linear_1.",
    "y_embedder.mlp.2.": "time_text_embed.text_embedder.linear_2.",
    "context_embedder.": "context_embedder.",
    "final_layer.linear.": "proj_out.",
    "final_layer.adaLN_modulation.1.": "norm_out.linear.",
}
BLOCK = {
    "x_block.adaLN_modulation.1.": "norm1.linear.",
    "context_block.adaLN_modulation.1.": "norm1_context.linear.",
    "x_block.attn.qkv.": ("attn.to_q.", "attn.to_k.", "attn.to_v."),
    "context_block.attn.qkv.": ("attn.add_q_proj.", "attn.add_k_proj.", "attn.add_v_proj."),
    "x_block.attn.ln_q.": "attn.norm_q.",
    "x_block.attn.ln_k.": "attn.norm_k.",
    "context_block.attn.ln_q.": "attn.norm_added_q.",
    "context_block.attn.ln_k.": "attn.norm_added_k.",
    "x_block.attn.proj.": "attn.to_out.0.",
    "context_block.attn.proj.": "attn.to_add_out.",
    "x_block.attn2.qkv.": ("attn2.to_q.", "attn2.to_k.", "attn2.to_v."),
    "x_block.attn2.ln_q.": "attn2.norm_q.",
    "x_block.attn2.ln_k.": "attn2.norm_k.",
    "x_block.attn2.proj.": "attn2.to_out.0.",
    "x_block.mlp.fc1.": "ff.net.0.proj.",
    "x_block.mlp.fc2.": "ff.net.2.",
    "context_block.mlp.fc1.": "ff_context.net.0.proj.",
    "context_block.mlp.fc2.": "ff_context.net.2.",
}
MARK = "joint_blocks.0.context_block.adaLN_modulation.1.bias"
NORM = "joint_blocks.0.x_block.attn.ln_q.weight"
HEAD = 64


def sd3_config(header: Header) -> dict[str, Any]:
    """Arguments of SD3Transformer2DModel, from shapes. Raises ModelFileError for a network that is built otherwise."""
    hidden, depth = header.size("x_embedder.proj.weight"), header.count("joint_blocks.{}.")
    head = header.size(NORM) if NORM in header else HEAD
    edge = math.isqrt(header.size("pos_embed", 1))
    if hidden % head or edge**2 != header.size("pos_embed", 1):
        raise header.fault(
            f"its width of {hidden} is no multiple of a head's {head}, or its {header.size('pos_embed', 1)} places are "
            "no square"
        )
    return {
        "patch_size": header.size("x_embedder.proj.weight", 2),
        "in_channels": header.size("x_embedder.proj.weight", 1),
        "out_channels": header.size("final_layer.linear.weight") // header.size("x_embedder.proj.weight", 2) ** 2,
        "num_layers": depth,
        "attention_head_dim": head,
        "num_attention_heads": hidden // head,
        "joint_attention_dim": header.size("context_embedder.weight", 1),
        "caption_projection_dim": header.size("context_embedder.weight"),
        "pooled_projection_dim": header.size("y_embedder.mlp.0.weight", 1),
        "pos_embed_max_size": edge,
        "dual_attention_layers": tuple(
            number for number in range(depth) if f"joint_blocks.{number}.x_block.attn2.qkv.weight" in header
        ),
        "qk_norm": "rms_norm" if NORM in header else None,
    }


def key_map(weights: Mapping[str, Tensor], config: Mapping[str, Any]) -> KeyMap:
    """Where each original weight (`diffusion_model.joint_blocks...`) lies in an SD3Transformer2DModel."""
    last = f"transformer_blocks.{config['num_layers'] - 1}.norm1_context.linear."
    swapped = {f"{name}{end}" for name in (last, "norm_out.linear.") for end in ("weight", "bias")}
    blocks = repeated(BLOCK, "joint_blocks.{}.", "transformer_blocks.{}.", config["num_layers"])
    return map_of({**FIXED, **blocks}, weights, swapped)
