"""The layouts that files have for CLIP's text network, and their keys in transformers' own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeVar

import torch
from torch import Tensor

from limner.models.checkpoint import Header

V = TypeVar("V")

IGNORED = ("position_ids", "logit_scale", "attn_mask")
"""Parts that files may have and no encoder needs."""

BLOCK = re.compile(r"transformer\.resblocks\.(\d+)\.(.+)")
OPEN_CLIP = {
    "positional_embedding": "embeddings.position_embedding.weight",
    "token_embedding.weight": "embeddings.token_embedding.weight",
    "ln_final.weight": "final_layer_norm.weight",
    "ln_final.bias": "final_layer_norm.bias",
}
IN_BLOCK = {
    "ln_1.": "layer_norm1.",
    "ln_2.": "layer_norm2.",
    "mlp.c_fc.": "mlp.fc1.",
    "mlp.c_proj.": "mlp.fc2.",
    "attn.out_proj.": "self_attn.out_proj.",
}
JOINED = ("q", "k", "v")


def from_transformers(weights: Mapping[str, V], prefix: str = "") -> dict[str, V]:
    """The part of a file below a prefix, written by transformers, of whatever version: without `text_model.`."""
    own = {key.removeprefix(prefix): weight for key, weight in weights.items() if key.startswith(prefix)}
    return {
        key.removeprefix("text_model."): weight
        for key, weight in own.items()
        if not key.endswith(IGNORED) and not key.startswith(("vision_model.", "visual_projection."))
    }


def from_open_clip(header: Header, weights: Mapping[str, Tensor], prefix: str = "") -> dict[str, Tensor]:
    """The part of a file below a prefix, written by OpenCLIP: query, key and value apart, the projection turned.

    Views of the file's tensors, but for the projection. Raises ModelFileError for keys that are not of this layout.
    """
    own = {key.removeprefix(prefix): weight for key, weight in weights.items() if key.startswith(prefix)}
    converted: dict[str, Tensor] = {}
    for key, weight in own.items():
        block = BLOCK.fullmatch(key)
        if key.endswith(IGNORED) or key.startswith("visual."):
            continue
        if block is not None:
            converted |= _of_block(header, f"encoder.layers.{block[1]}.", block[2], weight)
        elif key in OPEN_CLIP:
            converted[OPEN_CLIP[key]] = weight
        elif key == "text_projection":
            converted["text_projection.weight"] = weight.T.contiguous()
        elif key == "text_projection.weight":
            converted[key] = weight
        else:
            raise header.fault(f"its text encoder has {prefix}{key}, which is not of OpenCLIP's layout")
    return converted


def to_open_clip(weights: Mapping[str, Tensor], prefix: str = "") -> dict[str, Tensor]:
    """The way back, for files that are saved: weights under transformers' keys as OpenCLIP writes them."""
    names = {theirs: ours for ours, theirs in OPEN_CLIP.items()}
    saved: dict[str, Tensor] = {}
    for key, weight in weights.items():
        found = re.fullmatch(r"encoder\.layers\.(\d+)\.(.+)", key)
        if key == "text_projection.weight":
            saved[f"{prefix}text_projection"] = weight.T.contiguous()
        elif found is None:
            saved[prefix + names[key]] = weight
        elif found[2].startswith("self_attn.q_proj."):
            kind = found[2].rpartition(".")[2]
            parts = [weights[f"encoder.layers.{found[1]}.self_attn.{each}_proj.{kind}"] for each in JOINED]
            saved[f"{prefix}transformer.resblocks.{found[1]}.attn.in_proj_{kind}"] = torch.cat(parts)
        elif not found[2].startswith(("self_attn.k_proj.", "self_attn.v_proj.")):
            ours, theirs = next(pair for pair in IN_BLOCK.items() if found[2].startswith(pair[1]))
            saved[f"{prefix}transformer.resblocks.{found[1]}.{ours}{found[2].removeprefix(theirs)}"] = weight
    return saved


def _of_block(header: Header, block: str, key: str, weight: Tensor) -> dict[str, Tensor]:
    if key in ("attn.in_proj_weight", "attn.in_proj_bias"):
        kind = key.rpartition("_")[2]
        if len(weight) % 3:
            raise header.fault(f"its text encoder has {key} of shape {tuple(weight.shape)}, which is not three parts")
        return {
            f"{block}self_attn.{name}_proj.{kind}": part for name, part in zip(JOINED, weight.chunk(3), strict=True)
        }
    found = next((pair for pair in IN_BLOCK.items() if key.startswith(pair[0])), None)
    if found is None:
        raise header.fault(f"its text encoder has {key} in a block, which is not of OpenCLIP's layout")
    return {f"{block}{found[1]}{key.removeprefix(found[0])}": weight}
