"""Nodes that add LoRAs to models."""

from __future__ import annotations

from typing import Annotated, Any

from limner.engine.context import RunContext
from limner.graph.node import node
from limner.graph.types import Files, Float, Socket
from limner.models.library import ModelLibrary
from limner.models.lora.apply import add_lora
from limner.models.lora.read import read_lora
from limner.nodes.sockets import Clip, Model

Strength = Annotated[float, Float(-100, 100, step=0.01)]


def _file(ctx: RunContext, lora_name: str) -> Any:
    return ctx.service(ModelLibrary).fingerprint("loras", lora_name)


@node("LoraLoader", display_name="Load LoRA", category="loaders", fingerprint=_file)
def load_lora(
    ctx: RunContext,
    *,
    model: Annotated[Model, Socket("MODEL", {})],
    clip: Annotated[Clip, Socket("CLIP", {})],
    lora_name: Annotated[str, Files("loras", options={})],
    strength_model: Strength = 1.0,
    strength_clip: Strength = 1.0,
) -> tuple[Model, Clip]:
    """Adds a LoRA to a model and its text encoders. Several may follow one another; below 0 it is taken away.

    A LoRA for another family of models is refused; single parts that the model does not know are left out and told.
    """
    if not strength_model and not strength_clip:
        return model, clip
    changed, encoders = model.clone(), clip.clone()
    _add(ctx, lora_name, changed, encoders, strength_model, strength_clip)
    return changed, encoders


@node("LoraLoaderModelOnly", category="loaders", fingerprint=_file)
def load_lora_for_model(
    ctx: RunContext, *, model: Model, lora_name: Annotated[str, Files("loras")], strength_model: Strength = 1.0
) -> Model:
    """Adds a LoRA to a model alone, leaving its text encoders as they are."""
    if not strength_model:
        return model
    changed = model.clone()
    _add(ctx, lora_name, changed, None, strength_model, 0.0)
    return changed


def _add(
    ctx: RunContext, name: str, model: Model, clip: Clip | None, strength_model: float, strength_clip: float
) -> None:
    library = ctx.service(ModelLibrary)
    add_lora(
        library.kept("loras", name, read_lora),
        model,
        clip,
        model_name=model.name,
        strength_model=strength_model,
        strength_clip=strength_clip,
        warn=ctx.warn,
    )
