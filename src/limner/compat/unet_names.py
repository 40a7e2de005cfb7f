"""What the parts of a UNet are called in the original layout and in diffusers', as packs map one to the other."""

from __future__ import annotations

TRANSFORMER_BLOCKS = {
    f"{part}.{end}"
    for part in ("norm1", "norm2", "norm3", "attn1.to_out.0", "attn2.to_out.0", "ff.net.0.proj", "ff.net.2")
    for end in ("weight", "bias")
} | {f"{attention}.to_{role}.weight" for attention in ("attn1", "attn2") for role in "qkv"}
"""Weights of a layer, which are called the same in both."""

UNET_MAP_ATTENTIONS = {f"{part}.{end}" for part in ("proj_in", "proj_out", "norm") for end in ("weight", "bias")}
"""Weights of a spatial transformer beside its layers, which are called the same in both."""

UNET_MAP_RESNET = {
    f"{original}.{end}": f"{library}.{end}"
    for original, library in (
        ("in_layers.0", "norm1"),
        ("in_layers.2", "conv1"),
        ("emb_layers.1", "time_emb_proj"),
        ("out_layers.0", "norm2"),
        ("out_layers.3", "conv2"),
        ("skip_connection", "conv_shortcut"),
    )
    for end in ("weight", "bias")
}
"""Weights of a residual network, original to diffusers'."""

UNET_MAP_BASIC = {
    (f"{original}.{end}", f"{library}.{end}")
    for original, library in (
        ("label_emb.0.0", "class_embedding.linear_1"),
        ("label_emb.0.2", "class_embedding.linear_2"),
        ("label_emb.0.0", "add_embedding.linear_1"),
        ("label_emb.0.2", "add_embedding.linear_2"),
        ("input_blocks.0.0", "conv_in"),
        ("out.0", "conv_norm_out"),
        ("out.2", "conv_out"),
        ("time_embed.0", "time_embedding.linear_1"),
        ("time_embed.2", "time_embedding.linear_2"),
    )
    for end in ("weight", "bias")
}
"""Weights of the rest, (original, diffusers')."""
