"""Nodes that let a picture stand beside, or for, a prompt."""

from __future__ import annotations

from typing import Annotated, Any

import torch

from limner.engine.context import RunContext
from limner.graph.node import node
from limner.graph.types import Choices, Files, Float
from limner.models.clip_vision import load_clip_vision
from limner.models.library import ModelLibrary
from limner.models.style import load_style_model
from limner.models.weights import open_weights
from limner.nodes.conditioning.changing import with_extras
from limner.nodes.sockets import ClipVision, ClipVisionOutput, Conditioning, Image, StyleModel


def _vision_file(ctx: RunContext, clip_name: str) -> Any:
    return ctx.service(ModelLibrary).fingerprint("clip_vision", clip_name)


def _style_file(ctx: RunContext, style_model_name: str) -> Any:
    return ctx.service(ModelLibrary).fingerprint("style_models", style_model_name)


@node("CLIPVisionLoader", display_name="Load CLIP Vision", category="loaders", fingerprint=_vision_file)
def load_vision(ctx: RunContext, *, clip_name: Annotated[str, Files("clip_vision")]) -> ClipVision:
    """Loads a network that tells what it sees in pictures: CLIP's (ViT-L, H, bigG) or SigLIP's."""
    library = ctx.service(ModelLibrary)
    return library.kept("clip_vision", clip_name, lambda path: load_clip_vision(open_weights(path), library.devices))


@node("CLIPVisionEncode", display_name="CLIP Vision Encode", category="conditioning")
def see(*, clip_vision: ClipVision, image: Image, crop: Annotated[str, Choices("center", "none")]) -> ClipVisionOutput:
    """Tells what a vision network sees in pictures: in their middle square, or in all of them, pressed into one."""
    return clip_vision.encode_image(image, crop=crop == "center")


@node("StyleModelLoader", display_name="Load Style Model", category="loaders", fingerprint=_style_file)
def load_style(ctx: RunContext, *, style_model_name: Annotated[str, Files("style_models")]) -> StyleModel:
    """Loads a model that makes words of what a vision network sees: T2I-Adapter's style model, or Flux Redux."""
    library = ctx.service(ModelLibrary)
    return library.kept("style_models", style_model_name, lambda path: load_style_model(path, library.devices))


@node("StyleModelApply", display_name="Apply Style Model", category="conditioning/style_model")
def apply_style(
    *,
    conditioning: Conditioning,
    style_model: StyleModel,
    clip_vision_output: ClipVisionOutput,
    strength: Annotated[float, Float(0, 10, step=0.001)] = 1.0,
    strength_type: Annotated[str, Choices("multiply", "attn_bias")],
) -> Conditioning:
    """Puts what a vision network saw in a picture behind the words of a prompt.

    strength: multiplies it, or with attn_bias says how much Flux models heed it; other families do not know the latter.
    """
    seen = style_model.get_cond(clip_vision_output).flatten(0, 1)[None]
    if strength_type == "multiply":
        seen = seen * strength
    styled: Conditioning = []
    for text, extras in conditioning:
        first, own = text.shape[1], extras
        if strength_type == "attn_bias" and strength != 1:
            bias = float(torch.tensor(strength).log().clamp(min=-1e4))
            own = {
                **extras,
                "attention_bias": [*extras.get("attention_bias", ()), (first, first + seen.shape[1], bias)],
            }
        styled.append((torch.cat([text, seen.expand(len(text), -1, -1)], dim=1), own))
    return styled


@node("unCLIPConditioning", category="conditioning")
def add_pictures(
    *,
    conditioning: Conditioning,
    clip_vision_output: ClipVisionOutput,
    strength: Annotated[float, Float(-10, 10, step=0.01)] = 1.0,
    noise_augmentation: Annotated[float, Float(0, 1, step=0.01)] = 0.0,
) -> Conditioning:
    """Shows an unCLIP model a picture. noise_augmentation: how freely it may depart from it."""
    if not strength:
        return conditioning
    picture = {
        "clip_vision_output": clip_vision_output,
        "strength": strength,
        "noise_augmentation": noise_augmentation,
    }
    return with_extras(conditioning, {"unclip_conditioning": [picture]}, append=True)
