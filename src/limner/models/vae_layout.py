"""VAEs of the Stable Diffusion kind: their sizes from shapes, and what each weight is called by whom.

The original layout is that of Rombach et al. 2022, arXiv:2112.10752; diffusers' AutoencoderKL runs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from limner.models.checkpoint import Header
from limner.models.keys import KeyMap, Place

COMMON = {
    "conv_norm_out.": "norm_out.",
    "conv_shortcut.": "nin_shortcut.",
    "mid_block.resnets.0.": "mid.block_1.",
    "mid_block.resnets.1.": "mid.block_2.",
    "mid_block.attentions.0.": "mid.attn_1.",
}
ATTENTION = {"group_norm.": "norm.", "to_q.": "q.", "to_k.": "k.", "to_v.": "v.", "to_out.0.": "proj_out."}
OLDER = {"query.": "to_q.", "key.": "to_k.", "value.": "to_v.", "proj_attn.": "to_out.0."}
"""How diffusers called the parts of an attention at first."""

LEVEL = re.compile(r"(encoder\.down|decoder\.up)_blocks\.(\d+)\.(resnets|downsamplers\.0|upsamplers\.0)\.")
PARTS = {"resnets": "block", "downsamplers.0": "downsample", "upsamplers.0": "upsample"}


def original_names(names: Iterable[str], levels: int) -> dict[str, str]:
    """The name in the original layout for each in that of diffusers."""

    def place(found: re.Match[str]) -> str:
        way, level, part = found[1], int(found[2]), PARTS[found[3]]
        return f"{way}.{levels - 1 - level if way == 'decoder.up' else level}.{part}."

    renamed = {}
    for name in names:
        theirs = LEVEL.sub(place, name)
        for ours, original in COMMON.items():
            theirs = theirs.replace(ours, original)
        if ".attn_1." in theirs:
            for ours, original in {**OLDER, **ATTENTION}.items():
                theirs = theirs.replace(f".attn_1.{ours}", f".attn_1.{original}")
        renamed[name] = theirs
    return renamed


def key_map(shapes: dict[str, tuple[int, ...]], levels: int) -> KeyMap:
    """Where each weight of the original layout lies in an AutoencoderKL. shapes: of its parameters.

    Attention is a convolution of one pixel there and a linear layer here.
    """
    originals = original_names(shapes, levels)
    flat = {
        theirs: (*shapes[ours], 1, 1)
        for ours, theirs in originals.items()
        if ".attn_1." in theirs and len(shapes[ours]) == 2
    }
    return KeyMap({theirs: (Place(ours),) for ours, theirs in originals.items()}, shapes=flat)


def of_diffusers(header: Header) -> dict[str, str]:
    """The original name of each key of a file in diffusers' layout."""
    return original_names(
        header.shapes, max(header.count("encoder.down_blocks.{}."), header.count("decoder.up_blocks.{}."))
    )


def vae_config(header: Header) -> dict[str, Any]:
    """Arguments of AutoencoderKL, from the shapes of a VAE's weights in the original layout, without a prefix."""
    levels = header.count("encoder.down.{}.")
    if not levels:
        raise header.fault("it holds no VAE with an encoder (first_stage_model.encoder.*)")
    return {
        "in_channels": header.size("encoder.conv_in.weight", 1),
        "out_channels": header.size("decoder.conv_out.weight"),
        "latent_channels": header.size("decoder.conv_in.weight", 1),
        "block_out_channels": tuple(
            header.size(f"encoder.down.{level}.block.0.conv1.weight") for level in range(levels)
        ),
        "layers_per_block": header.count("encoder.down.0.block.{}."),
        "down_block_types": ("DownEncoderBlock2D",) * levels,
        "up_block_types": ("UpDecoderBlock2D",) * levels,
        "mid_block_add_attention": "encoder.mid.attn_1.q.weight" in header,
        "use_quant_conv": "quant_conv.weight" in header,
        "use_post_quant_conv": "post_quant_conv.weight" in header,
        "norm_num_groups": header.number("vae", "norm_num_groups") or 32,
    }
