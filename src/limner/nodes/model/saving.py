"""Nodes that write models to files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from torch import Tensor

from limner.engine.context import RunContext
from limner.errors import UnfitInput
from limner.graph.kinds import Result
from limner.graph.node import node
from limner.graph.types import Hidden, Text
from limner.models import saving
from limner.nodes.sockets import Clip, Model, Vae

CATEGORY = "advanced/model_merging"
MODULE = "comfy_extras.nodes_model_merging"

Prompt = Annotated[Any, Hidden("PROMPT")]
Extras = Annotated[Any, Hidden("EXTRA_PNGINFO")]


@node("CheckpointSave", display_name="Save Checkpoint", category=CATEGORY, module=MODULE, outputs=(), output_node=True)
def save_checkpoint(
    ctx: RunContext,
    *,
    model: Model,
    clip: Clip,
    vae: Vae,
    filename_prefix: Annotated[str, Text()] = "checkpoints/ComfyUI",
    prompt: Prompt = None,
    extra_pnginfo: Extras = None,
) -> Result:
    """Writes a model, its text encoders and its VAE as one checkpoint, with all that was merged into them.

    The weights are in the precision they were loaded in. The workflow stands in the file's head.
    """
    weights = saving.checkpoint_weights(model, clip, vae)
    facts = saving.facts_of(model, clip, vae)
    return _write(ctx, filename_prefix, weights, prompt, extra_pnginfo, facts, model)


@node("ModelSave", category=CATEGORY, module=MODULE, outputs=(), output_node=True)
def save_model(
    ctx: RunContext,
    *,
    model: Model,
    filename_prefix: Annotated[str, Text()] = "diffusion_models/ComfyUI",
    prompt: Prompt = None,
    extra_pnginfo: Extras = None,
) -> Result:
    """Writes a denoising model alone, with all that was merged into it."""
    weights, facts = saving.model_weights(model), saving.facts_of(model)
    return _write(ctx, filename_prefix, weights, prompt, extra_pnginfo, facts, model)


@node("CLIPSave", category=CATEGORY, module=MODULE, outputs=(), output_node=True)
def save_encoders(
    ctx: RunContext,
    *,
    clip: Clip,
    filename_prefix: Annotated[str, Text()] = "clip/ComfyUI",
    prompt: Prompt = None,
    extra_pnginfo: Extras = None,
) -> Result:
    """Writes text encoders, each to a file of its own whose name ends in the encoder's."""
    facts = saving.facts_of(clip=clip)
    for name, weights in saving.encoder_weights(clip).items():
        own = {**facts, "text": {**facts.get("text", {}), "kind": name}}
        _write(ctx, f"{filename_prefix}_{name}", weights, prompt, extra_pnginfo, own)
    return Result(ui={})


@node("VAESave", category=CATEGORY, module=MODULE, outputs=(), output_node=True)
def save_vae(
    ctx: RunContext,
    *,
    vae: Vae,
    filename_prefix: Annotated[str, Text()] = "vae/ComfyUI_vae",
    prompt: Prompt = None,
    extra_pnginfo: Extras = None,
) -> Result:
    """Writes a VAE alone."""
    return _write(ctx, filename_prefix, saving.vae_weights(vae), prompt, extra_pnginfo, saving.facts_of(vae=vae))


def _write(
    ctx: RunContext,
    prefix: str,
    weights: Mapping[str, Tensor],
    prompt: Any,
    extra_pnginfo: Any,
    facts: dict[str, Any],
    model: Model | None = None,
) -> Result:
    if not isinstance(extra_pnginfo, dict | None):
        raise UnfitInput(f"extra_pnginfo is an object of things to write into files, not {extra_pnginfo!r:.100}")
    (file,) = ctx.files.reserve(type="output", prefix=prefix, count=1, width=0, height=0, extension=".safetensors")
    stem, _, number = file.filename.removesuffix("_.safetensors").rpartition("_")
    title = f"{stem} {int(number)}" if number.isdigit() else file.filename
    texts = saving.metadata(title, prompt=prompt, extra_pnginfo=extra_pnginfo, model=model, **facts)
    saving.write(file.path, weights, texts)
    return Result(ui={})
