"""Nodes that load whole checkpoints: model, text encoder and VAE in one file, or in one folder."""

from __future__ import annotations

from typing import Annotated

from limner.engine.context import RunContext
from limner.graph.node import node
from limner.graph.types import Files
from limner.models.library import ModelLibrary
from limner.nodes.sockets import Clip, ClipVision, Model, Vae


@node("CheckpointLoaderSimple", display_name="Load Checkpoint", category="loaders")
def load_checkpoint(
    ctx: RunContext, *, ckpt_name: Annotated[str, Files("checkpoints", options={})]
) -> tuple[Model, Clip, Vae]:
    """Loads a checkpoint: the denoising model, the text encoder and the VAE of one file.

    What it is told by its content. A part that the file lacks fails where it is used.
    """
    return ctx.service(ModelLibrary).checkpoint(ckpt_name)


@node(
    "CheckpointLoader",
    display_name="Load Checkpoint With Config (DEPRECATED)",
    category="advanced/loaders",
    deprecated=True,
)
def load_checkpoint_with_config(
    ctx: RunContext,
    *,
    config_name: Annotated[str, Files("configs")],
    ckpt_name: Annotated[str, Files("checkpoints")],
) -> tuple[Model, Clip, Vae]:
    """Loads a checkpoint as a configuration file says: what its model predicts, and which layer the text is taken from.

    All else is read from the checkpoint itself, so that "Load Checkpoint" does for nearly all files.
    """
    return ctx.service(ModelLibrary).checkpoint_with_config(ckpt_name, config_name)


@node("DiffusersLoader", category="advanced/loaders/deprecated")
def load_diffusers(ctx: RunContext, *, model_path: Annotated[str, Files("diffusers")]) -> tuple[Model, Clip, Vae]:
    """Loads a model from a folder in the layout of diffusers: unet/, vae/, text_encoder/ and so on."""
    return ctx.service(ModelLibrary).diffusers_folder(model_path)


@node("unCLIPCheckpointLoader", category="loaders")
def load_unclip_checkpoint(
    ctx: RunContext, *, ckpt_name: Annotated[str, Files("checkpoints")]
) -> tuple[Model, Clip, Vae, ClipVision]:
    """Loads an unCLIP checkpoint: model, text encoder, VAE, and the vision model with which it looks at pictures."""
    library = ctx.service(ModelLibrary)
    return *library.checkpoint(ckpt_name), library.vision_of_checkpoint(ckpt_name)
