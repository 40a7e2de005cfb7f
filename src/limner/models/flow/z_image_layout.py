"""Z-Image's weights: their sizes from shapes, and what each is called in the original layout.

Files, LoRAs and node packs speak of `layers.0.attention.qkv.weight`; diffusers' ZImageTransformer2DModel runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from limner.models.checkpoint import Header
from limner.models.flow.tables import Table, repeated
from limner.models.flow.tables import key_map as map_of
from limner.models.flow.tokens import EDGE
from limner.models.keys import KeyMap

PATCH = f"{EDGE}-1"
"""How diffusers names the parts that are for tokens of 2x2 places of one frame."""

FIXED: Table = {
    "x_embedder.": f"all_x_embedder.{PATCH}.",
    "final_layer.": f"all_final_layer.{PATCH}.",
    "t_embedder.": "t_embedder.",
    "cap_embedder.": "cap_embedder.",
    "x_pad_token": "x_pad_token",
    "cap_pad_token": "cap_pad_token",
}
BLOCK: Table = {
    "attention.qkv.": ("attention.to_q.", "attention.to_k.", "attention.to_v."),
    "attention.out.": "attention.to_out.0.",
    "attention.q_norm.": "attention.norm_q.",
    "attention.k_norm.": "attention.norm_k.",
    "feed_forward.": "feed_forward.",
    "attention_norm1.": "attention_norm1.",
    "attention_norm2.": "attention_norm2.",
    "ffn_norm1.": "ffn_norm1.",
    "ffn_norm2.": "ffn_norm2.",
    "adaLN_modulation.": "adaLN_modulation.",
}
BLOCKS = ("layers", "noise_refiner", "context_refiner")
MARK = "layers.0.adaLN_modulation.0.weight"

PLACES = (1536, 512, 512)
"""Tokens of text and a picture's edges, in tokens, that are told apart at most."""


def z_image_config(header: Header) -> dict[str, Any]:
    """Arguments of ZImageTransformer2DModel, from shapes. Raises ModelFileError for a network built otherwise."""
    hidden, head = header.size("x_embedder.weight"), header.size("layers.0.attention.q_norm.weight")
    if head % 16 or hidden % head:
        raise header.fault(f"its attention has heads of {head} channels in a width of {hidden}; 16, 32, ... fit")
    refiners = header.count("noise_refiner.{}.")
    if refiners != header.count("context_refiner.{}."):
        raise header.fault(f"it refines the picture {refiners} times and the text otherwise")
    return {
        "in_channels": header.size("x_embedder.weight", 1) // EDGE**2,
        "dim": hidden,
        "n_layers": header.count("layers.{}."),
        "n_refiner_layers": refiners,
        "n_heads": hidden // head,
        "n_kv_heads": hidden // head,
        "cap_feat_dim": header.size("cap_embedder.1.weight", 1),
        # a quarter of a head for where in the text, the rest for where in the picture: 32, 48 and 48 of 128
        "axes_dims": [head // 4, head * 3 // 8, head * 3 // 8],
        "axes_lens": list(PLACES),
    }


def key_map(weights: Mapping[str, Tensor], config: Mapping[str, Any]) -> KeyMap:
    """Where each original weight (`diffusion_model.layers...`) lies in a ZImageTransformer2DModel."""
    table = dict(FIXED)
    for name in BLOCKS:
        count = config["n_layers" if name == "layers" else "n_refiner_layers"]
        table |= repeated(BLOCK, f"{name}.{{}}.", f"{name}.{{}}.", count)
    return map_of(table, weights)
