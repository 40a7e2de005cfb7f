"""Nodes that load models."""

from __future__ import annotations

from typing import Annotated

from limner.engine.context import RunContext
from limner.graph.spec import node
from limner.graph.types import Files
from limner.models.library import ModelLibrary
from limner.nodes.sockets import Clip, Model, Vae


@node("CheckpointLoaderSimple", display_name="Load Checkpoint", category="loaders")
def load_checkpoint(
    ctx: RunContext, *, ckpt_name: Annotated[str, Files("checkpoints", options={})]
) -> tuple[Model, Clip, Vae]:
    """Loads a checkpoint: the denoising model, the text encoder and the VAE of one safetensors file."""
    return ctx.service(ModelLibrary).checkpoint(ckpt_name)
