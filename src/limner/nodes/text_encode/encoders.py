"""Nodes that load text encoders and change how they are used."""

from __future__ import annotations

from typing import Annotated

from limner.engine.context import RunContext
from limner.graph.node import node
from limner.graph.types import Choices, Files, Int, Socket
from limner.models.library import ModelLibrary
from limner.nodes.sockets import Clip

TYPES = (
    "stable_diffusion", "stable_cascade", "sd3", "stable_audio", "mochi", "ltxv", "pixart", "cosmos", "lumina2", "wan",
    "hidream", "chroma", "ace", "omnigen2", "qwen_image", "hunyuan_image",
)  # fmt: skip
TYPES_OF_TWO = ("sdxl", "sd3", "flux", "hunyuan_video", "hidream", "hunyuan_image")

Encoder = Annotated[str, Files("text_encoders")]
Device = Annotated[str | None, Choices("default", "cpu", options={"advanced": True}, optional=True)]


@node("CLIPLoader", display_name="Load CLIP", category="advanced/loaders")
def load_clip(
    ctx: RunContext, *, clip_name: Encoder, type: Annotated[str, Choices(*TYPES)], device: Device = None
) -> Clip:
    """Loads a text encoder for the models of a type.

    stable_diffusion: CLIP-L, OpenCLIP-H or OpenCLIP-G. sd3: CLIP-L, OpenCLIP-G or T5. lumina2: Qwen3, for Z-Image.
    """
    return ctx.service(ModelLibrary).text_encoders([clip_name], type, device or "default")


@node("DualCLIPLoader", category="advanced/loaders")
def load_two_clips(
    ctx: RunContext,
    *,
    clip_name1: Encoder,
    clip_name2: Encoder,
    type: Annotated[str, Choices(*TYPES_OF_TWO)],
    device: Device = None,
) -> Clip:
    """Loads two text encoders for the models of a type, in any order.

    sdxl: CLIP-L and OpenCLIP-G. sd3: two of CLIP-L, OpenCLIP-G and T5. flux: CLIP-L and T5.
    """
    return ctx.service(ModelLibrary).text_encoders([clip_name1, clip_name2], type, device or "default")


@node("TripleCLIPLoader", category="advanced/loaders", module="comfy_extras.nodes_sd3", schema_style=True)
def load_three_clips(ctx: RunContext, *, clip_name1: Encoder, clip_name2: Encoder, clip_name3: Encoder) -> Clip:
    """Loads the three text encoders of Stable Diffusion 3, in any order: CLIP-L, OpenCLIP-G and T5."""
    return ctx.service(ModelLibrary).text_encoders([clip_name1, clip_name2, clip_name3], "sd3")


@node("CLIPSetLastLayer", display_name="CLIP Set Last Layer", category="conditioning")
def set_last_layer(*, clip: Clip, stop_at_clip_layer: Annotated[int, Int(-24, -1, step=1)] = -1) -> Clip:
    """Takes the text encoder's states from an earlier layer ("CLIP skip"): -1 is the last, -2 the one before.

    A number beyond an encoder's first layer means its last.
    """
    changed = clip.clone()
    changed.clip_layer(stop_at_clip_layer)
    return changed


@node(
    "T5TokenizerOptions",
    category="_for_testing/conditioning",
    module="comfy_extras.nodes_cond",
    schema_style=True,
    experimental=True,
)
def set_t5_options(
    ctx: RunContext,
    *,
    clip: Annotated[Clip, Socket("CLIP", {})],
    min_padding: Annotated[int, Int(0, 10000, step=1)] = 0,
    min_length: Annotated[int, Int(0, 10000, step=1)] = 0,
) -> Clip:
    """Changes how a prompt is padded for T5: by at least min_padding places, and to at least min_length of them."""
    changed = clip.clone()
    if changed.cond_stage_model.encoder("t5xxl") is None:
        ctx.warn("this text encoder has no T5, so that options for T5 change nothing")
        return changed
    changed.set_tokenizer_option("t5xxl_min_padding", min_padding)
    changed.set_tokenizer_option("t5xxl_min_length", min_length)
    return changed
