"""What tensors by name tell of a model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from limner.models.family import PREFIXES

MARKS = (
    "input_blocks.0.0.weight",
    "double_blocks.0.img_attn.norm.key_norm.scale",
    "joint_blocks.0.context_block.attn.qkv.weight",
    "img_in.weight",
    "x_embedder.weight",
    "conv_in.weight",
)
"""Tensors by which the beginning of a denoiser is known."""


def count_blocks(state_dict_keys: Iterable[str], prefix_string: str) -> int:
    """How many numbers in a row from 0 fill the `{}` of a beginning so that some key begins with it."""
    keys = list(state_dict_keys)
    count = 0
    while any(key.startswith(prefix_string.format(count)) for key in keys):
        count += 1
    return count


def unet_prefix_from_state_dict(state_dict: Mapping[str, Any]) -> str:
    """Behind which prefix the denoiser lies."""
    for prefix in PREFIXES:
        if any(f"{prefix}{mark}" in state_dict for mark in MARKS):
            return prefix
    found = {prefix: sum(key.startswith(prefix) for key in state_dict) for prefix in PREFIXES if prefix}
    best = max(found, key=lambda prefix: found[prefix])
    return best if found[best] else ""
