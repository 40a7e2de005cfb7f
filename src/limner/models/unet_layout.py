"""UNets of the Stable Diffusion kind: their sizes from shapes, and what each weight is called by whom.

Two layouts are in use: the original one of Rombach et al. 2022, arXiv:2112.10752, in which checkpoints, LoRAs and node
packs speak (`input_blocks.1.0.in_layers.0.weight`), and that of diffusers (`down_blocks.0.resnets.0.norm1.weight`),
whose UNet2DConditionModel runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from limner.models.checkpoint import Header
from limner.models.keys import KeyMap, Place

RESNET = {
    "norm1.": "in_layers.0.",
    "conv1.": "in_layers.2.",
    "time_emb_proj.": "emb_layers.1.",
    "norm2.": "out_layers.0.",
    "conv2.": "out_layers.3.",
    "conv_shortcut.": "skip_connection.",
}
FIXED = {
    "time_embedding.linear_1.": "time_embed.0.",
    "time_embedding.linear_2.": "time_embed.2.",
    "class_embedding.linear_1.": "label_emb.0.0.",
    "class_embedding.linear_2.": "label_emb.0.2.",
    "add_embedding.linear_1.": "label_emb.0.0.",
    "add_embedding.linear_2.": "label_emb.0.2.",
    "conv_in.": "input_blocks.0.0.",
    "conv_norm_out.": "out.0.",
    "conv_out.": "out.2.",
    "mid_block.resnets.0.": "middle_block.0.",
    "mid_block.attentions.0.": "middle_block.1.",
    "mid_block.resnets.1.": "middle_block.2.",
}


def original_names(names: Iterable[str], attention: Sequence[bool], layers: int) -> dict[str, str]:
    """The name in the original layout for each in that of diffusers; others are left out.

    attention: whether each level looks at the text, from the top down. layers: residual networks on each, going down.
    """
    blocks = {**FIXED, **_blocks(attention, layers)}
    found = {}
    for name in names:
        ours = next((prefix for prefix in _prefixes(name) if prefix in blocks), None)
        if ours is not None:
            rest = name.removeprefix(ours)
            if ".resnets." in ours:
                part = rest[: rest.index(".") + 1]
                rest = RESNET.get(part, part) + rest.removeprefix(part)
            found[name] = blocks[ours] + rest
    return found


def key_map(names: Iterable[str], config: Mapping[str, Any]) -> KeyMap:
    """Where each weight of the original layout (`diffusion_model.input_blocks...`) lies in a UNet2DConditionModel.

    names: its parameters. config: what it was made of.
    """
    attention = [kind == CROSS for kind in config["down_block_types"]]
    originals = original_names(names, attention, config["layers_per_block"])
    return KeyMap({f"diffusion_model.{theirs}": (Place(ours),) for ours, theirs in originals.items()})


def of_diffusers(header: Header) -> dict[str, str]:
    """The original name of each key of a file in diffusers' layout."""
    levels = header.count("down_blocks.{}.")
    attention = [header.has(f"down_blocks.{level}.attentions.") for level in range(levels)]
    return original_names(header.shapes, attention, header.count("down_blocks.0.resnets.{}."))


CROSS = "CrossAttnDownBlock2D"


def unet_config(header: Header, *, head_width: int | None = None) -> dict[str, Any]:
    """Arguments of UNet2DConditionModel, from the shapes of a UNet's weights in the original layout, without a prefix.

    head_width: channels of an attention head; None where each level has 8 heads, or as many as `limner.config` says.
    Raises ModelFileError for a UNet that is built otherwise.
    """
    widths, depths, resnets = levels(header)
    middle = "middle_block.1."
    bottom = header.count(f"{middle}transformer_blocks.{{}}.")
    if not widths or len(set(resnets)) != 1 or not bottom:
        raise header.fault(f"its UNet has blocks {resnets} with attention {depths}, which is not of this family")
    told = header.number("unet", "num_heads")
    if told or head_width is None:
        heads: int | tuple[int, ...] = told or 8
    else:
        heads = tuple(max(1, width // head_width) for width in widths)
    config: dict[str, Any] = {
        "sample_size": None,
        "in_channels": header.size("input_blocks.0.0.weight", 1),
        "out_channels": header.size("out.2.weight"),
        "block_out_channels": tuple(widths),
        "layers_per_block": resnets[0],
        "down_block_types": tuple(CROSS if depth else "DownBlock2D" for depth in depths),
        "up_block_types": tuple("CrossAttnUpBlock2D" if depth else "UpBlock2D" for depth in reversed(depths)),
        # diffusers takes the last level's depth for the bottom, whether or not that level has attention
        "transformer_layers_per_block": tuple(depth or bottom for depth in depths),
        "cross_attention_dim": header.size(f"{middle}transformer_blocks.0.attn2.to_k.weight", 1),
        "use_linear_projection": len(header.shape(f"{middle}proj_in.weight") or ()) == 2,
        "attention_head_dim": heads,  # diffusers' name for the number of heads
        "norm_num_groups": header.number("unet", "norm_num_groups") or 32,
    }
    if "label_emb.0.0.weight" in header:
        config["class_embed_type"] = "projection"  # a vector beside the text, however it came about
        config["projection_class_embeddings_input_dim"] = header.size("label_emb.0.0.weight", 1)
    return config


def attention_levels(header: Header) -> list[bool]:
    """Whether each level of a UNet looks at the text, from the top down."""
    return [bool(depth) for depth in levels(header)[1]]


def levels(header: Header) -> tuple[list[int], list[int], list[int]]:
    """Of each level: its width, how deep its attention is, how many residual networks it has."""
    widths: list[int] = []
    depths: list[int] = []
    resnets: list[int] = []
    for block in range(1, header.count("input_blocks.{}.")):
        prefix = f"input_blocks.{block}."
        if f"{prefix}0.op.weight" in header:
            continue
        width = header.size(f"{prefix}0.in_layers.2.weight")
        if block == 1 or f"input_blocks.{block - 1}.0.op.weight" in header:
            widths.append(width)
            depths.append(header.count(f"{prefix}1.transformer_blocks.{{}}."))
            resnets.append(0)
        resnets[-1] += 1
    return widths, depths, resnets


def _blocks(attention: Sequence[bool], layers: int) -> dict[str, str]:
    """The prefix in the original layout for each prefix in that of diffusers."""
    names: dict[str, str] = {}
    levels, block = len(attention), 1
    for level in range(levels):
        for layer in range(layers):
            names[f"down_blocks.{level}.resnets.{layer}."] = f"input_blocks.{block}.0."
            names[f"down_blocks.{level}.attentions.{layer}."] = f"input_blocks.{block}.1."
            block += 1
        if level < levels - 1:
            names[f"down_blocks.{level}.downsamplers.0.conv."] = f"input_blocks.{block}.0.op."
            block += 1
    block = 0
    for level, looks in enumerate(reversed(attention)):
        for layer in range(layers + 1):
            names[f"up_blocks.{level}.resnets.{layer}."] = f"output_blocks.{block}.0."
            names[f"up_blocks.{level}.attentions.{layer}."] = f"output_blocks.{block}.1."
            if layer == layers and level < levels - 1:
                names[f"up_blocks.{level}.upsamplers.0.conv."] = f"output_blocks.{block}.{2 if looks else 1}.conv."
            block += 1
    return names


def _prefixes(name: str) -> list[str]:
    """The beginnings of a name that end in a dot, the longest first."""
    dots = [place for place, sign in enumerate(name) if sign == "."]
    return [name[: place + 1] for place in reversed(dots)]
