"""Flux.1's weights: their sizes from shapes, and what each is called in the layout of Black Forest Labs.

Files, LoRAs and node packs speak of `double_blocks.0.img_attn.qkv.weight`; diffusers' FluxTransformer2DModel runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from limner.models.checkpoint import Header
from limner.models.flow.tables import key_map as map_of
from limner.models.flow.tables import repeated
from limner.models.keys import KeyMap

FIXED = {
    "img_in.": "x_embedder.",
    "txt_in.": "context_embedder.",
    "time_in.in_layer.": "time_text_embed.timestep_embedder.linear_1.",
    "time_in.out_layer.": "time_text_embed.timestep_embedder.linear_2.",
    "guidance_in.in_layer.": "time_text_embed.guidance_embedder.linear_1.",
    "guidance_in.out_layer.": "time_text_embed.guidance_embedder.linear_2.",
    "vector_in.in_layer.": "time_text_embed.text_embedder.linear_1.",
    "vector_in.out_layer.": "time_text_embed.text_embedder.linear_2.",
    "final_layer.linear.": "proj_out.",
    "final_layer.adaLN_modulation.1.": "norm_out.linear.",
}
DOUBLE = {
    "img_mod.lin.": "norm1.linear.",
    "txt_mod.lin.": "norm1_context.linear.",
    "img_attn.qkv.": ("attn.to_q.", "attn.to_k.", "attn.to_v."),
    "txt_attn.qkv.": ("attn.add_q_proj.", "attn.add_k_proj.", "attn.add_v_proj."),
    "img_attn.norm.query_norm.scale": "attn.norm_q.weight",
    "img_attn.norm.key_norm.scale": "attn.norm_k.weight",
    "txt_attn.norm.query_norm.scale": "attn.norm_added_q.weight",
    "txt_attn.norm.key_norm.scale": "attn.norm_added_k.weight",
    "img_attn.proj.": "attn.to_out.0.",
    "txt_attn.proj.": "attn.to_add_out.",
    "img_mlp.0.": "ff.net.0.proj.",
    "img_mlp.2.": "ff.net.2.",
    "txt_mlp.0.": "ff_context.net.0.proj.",
    "txt_mlp.2.": "ff_context.net.2.",
}
SINGLE = {
    "modulation.lin.": "norm.linear.",
    "linear1.": ("attn.to_q.", "attn.to_k.", "attn.to_v.", "proj_mlp."),
    "linear2.": "proj_out.",
    "norm.query_norm.scale": "attn.norm_q.weight",
    "norm.key_norm.scale": "attn.norm_k.weight",
}
MARK = "double_blocks.0.img_attn.norm.key_norm.scale"

PATCH = 2
"""Edge in places of a token."""


def flux_config(header: Header) -> dict[str, Any]:
    """Arguments of FluxTransformer2DModel, from shapes. Raises ModelFileError for a network that is built otherwise."""
    head, hidden = header.size(MARK), header.size("img_in.weight")
    if head % 16 or hidden % head:
        raise header.fault(f"its attention has heads of {head} channels in a width of {hidden}; 16, 32, ... fit")
    return {
        "in_channels": header.size("img_in.weight", 1),
        "out_channels": header.size("final_layer.linear.weight"),
        "num_layers": header.count("double_blocks.{}."),
        "num_single_layers": header.count("single_blocks.{}."),
        "attention_head_dim": head,
        "num_attention_heads": hidden // head,
        "joint_attention_dim": header.size("txt_in.weight", 1),
        "pooled_projection_dim": header.size("vector_in.in_layer.weight", 1),
        "guidance_embeds": "guidance_in.in_layer.weight" in header,
        # an eighth of a head for which picture it is, the rest for where in it: 16, 56 and 56 of 128
        "axes_dims_rope": (head // 8, head * 7 // 16, head * 7 // 16),
    }


def key_map(weights: Mapping[str, Tensor], config: Mapping[str, Any]) -> KeyMap:
    """Where each original weight (`diffusion_model.double_blocks...`) lies in a FluxTransformer2DModel."""
    table = {
        **FIXED,
        **repeated(DOUBLE, "double_blocks.{}.", "transformer_blocks.{}.", config["num_layers"]),
        **repeated(SINGLE, "single_blocks.{}.", "single_transformer_blocks.{}.", config["num_single_layers"]),
    }
    return map_of(table, weights, swapped=("norm_out.linear.weight", "norm_out.linear.bias"))
