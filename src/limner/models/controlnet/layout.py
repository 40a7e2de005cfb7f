"""Control networks' sizes from shapes, and what each weight is called by whom.

The original layout is that of Zhang et al. 2023, arXiv:2302.05543 (`input_blocks`, `zero_convs`, `input_hint_block`);
diffusers' ControlNetModel runs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from limner.models.checkpoint import Header
from limner.models.keys import KeyMap, Place
from limner.models.unet_layout import CROSS, levels, of_diffusers, original_names

HINT = "input_hint_block."
FIXED = {
    "controlnet_mid_block.": "middle_block_out.0.",
    "controlnet_cond_embedding.conv_in.": f"{HINT}0.",
}
SKIP = re.compile(r"controlnet_down_blocks\.(\d+)\.")
READS = re.compile(r"controlnet_cond_embedding\.blocks\.(\d+)\.")
UNION = ("task_embedding", "transformer_layes.", "spatial_ch_projs.", "control_add_embedding.")
"""Parts of a network for several kinds of pictures, which both layouts name alike."""


def original_control_names(names: Iterable[str], attention: list[bool], layers: int, hints: int) -> dict[str, str]:
    """The name in the original layout for each in that of diffusers. hints: convolutions that read the picture."""
    names = list(names)
    renamed = original_names(names, attention, layers)
    fixed = {**FIXED, "controlnet_cond_embedding.conv_out.": f"{HINT}{2 * (hints - 1)}."}
    for name in names:
        for ours, theirs in fixed.items():
            if name.startswith(ours):
                renamed[name] = theirs + name.removeprefix(ours)
        if found := SKIP.match(name):
            renamed[name] = f"zero_convs.{found[1]}.0.{name[found.end() :]}"
        if found := READS.match(name):
            renamed[name] = f"{HINT}{2 * int(found[1]) + 2}.{name[found.end() :]}"
        if name.startswith(UNION):
            renamed[name] = name
    return renamed


def from_diffusers(header: Header) -> dict[str, str]:
    """The original name of each key of a file in diffusers' layout."""
    count = header.count("down_blocks.{}.")
    attention = [header.has(f"down_blocks.{level}.attentions.") for level in range(count)]
    hints = header.count("controlnet_cond_embedding.blocks.{}.") + 2
    layers = header.count("down_blocks.0.resnets.{}.")
    return {**of_diffusers(header), **original_control_names(header.shapes, attention, layers, hints)}


def config(header: Header) -> dict[str, Any]:
    """Arguments of ControlNetModel, from the shapes of weights in the original layout, without a prefix."""
    widths, depths, resnets = levels(header)
    bottom = header.count("middle_block.1.transformer_blocks.{}.")
    if not widths or len(set(resnets)) != 1:
        raise header.fault(f"its blocks {resnets} with attention {depths} are those of no control network known here")
    steps = range(2, 2 * hint_convolutions(header) - 2, 4)
    hints = [header.size(f"{HINT}0.weight"), *(header.size(f"{HINT}{step + 2}.weight") for step in steps)]
    told = header.number("unet", "num_heads")
    flat = len(header.shape("middle_block.1.proj_in.weight") or ()) == 2
    found: dict[str, Any] = {
        "in_channels": header.size("input_blocks.0.0.weight", 1),
        "conditioning_channels": header.size(f"{HINT}0.weight", 1),
        "block_out_channels": tuple(widths),
        "layers_per_block": resnets[0],
        "down_block_types": tuple(CROSS if depth else "DownBlock2D" for depth in depths),
        "mid_block_type": "UNetMidBlock2DCrossAttn" if bottom else "UNetMidBlock2D",
        "transformer_layers_per_block": tuple(depth or bottom or 1 for depth in depths),
        "use_linear_projection": flat,
        # SD1.x has 8 heads everywhere, later families 64 channels to each
        "attention_head_dim": told or (tuple(max(1, width // 64) for width in widths) if flat else 8),
        "norm_num_groups": header.number("unet", "norm_num_groups") or 32,
        "conditioning_embedding_out_channels": tuple(hints),
    }
    if bottom:
        found["cross_attention_dim"] = header.size("middle_block.1.transformer_blocks.0.attn2.to_k.weight", 1)
    if "label_emb.0.0.weight" in header:
        found["class_embed_type"] = "projection"
        found["projection_class_embeddings_input_dim"] = header.size("label_emb.0.0.weight", 1)
    return found


def union_config(header: Header) -> dict[str, Any]:
    """Arguments of ControlNetUnionModel beside those of `config`; the picture kinds are the rows of task_embedding."""
    kinds, width = (header.size("task_embedding", axis) for axis in (0, 1))
    return {
        "num_control_type": kinds,
        "num_trans_channel": width,
        "num_trans_head": 8,
        "num_trans_layer": header.count("transformer_layes.{}."),
        "num_proj_channel": header.size("spatial_ch_projs.weight"),
        "addition_time_embed_dim": header.size("control_add_embedding.linear_1.weight", 1) // kinds,
    }


def key_map(names: Iterable[str], made_of: Mapping[str, Any]) -> KeyMap:
    """Where each weight of the original layout (`control_model.input_blocks...`) lies in a ControlNetModel."""
    attention = [kind == CROSS for kind in made_of["down_block_types"]]
    hints = 2 * len(made_of["conditioning_embedding_out_channels"])
    originals = original_control_names(names, attention, made_of["layers_per_block"], hints)
    return KeyMap({f"control_model.{theirs}": (Place(ours),) for ours, theirs in originals.items()})


def hint_convolutions(header: Header) -> int:
    """How many convolutions read the picture; activations stand between them."""
    number = 0
    while f"{HINT}{2 * number}.weight" in header:
        number += 1
    if number < 2:
        raise header.fault("it has no part that reads a picture (input_hint_block)")
    return number
