"""Nodes that load models whose parts come in files of their own."""

from __future__ import annotations

from typing import Annotated

from limner.engine.context import RunContext
from limner.graph.node import node
from limner.graph.types import Choices, Files
from limner.models.library import ModelLibrary
from limner.models.rounding import CHOICES
from limner.models.vae_kinds import PIXEL_SPACE
from limner.nodes.sockets import Model, Vae


@node("UNETLoader", display_name="Load Diffusion Model", category="advanced/loaders")
def load_diffusion_model(
    ctx: RunContext,
    *,
    unet_name: Annotated[str, Files("diffusion_models")],
    weight_dtype: Annotated[str, Choices(*CHOICES)],
) -> Model:
    """Loads a denoising model from a file of its own.

    weight_dtype: the fp8 choices round every weight to 8 bits, which halves the memory that holds the file's weights
    and costs a little quality.
    """
    return ctx.service(ModelLibrary).diffusion_model(unet_name, weight_dtype)


@node("VAELoader", display_name="Load VAE", category="loaders")
def load_vae(ctx: RunContext, *, vae_name: Annotated[str, Files("vae", last=(PIXEL_SPACE,))]) -> Vae:
    """Loads a VAE from a file of its own.

    taesd and its kin are the small VAEs in `vae_approx`; pixel_space leaves pictures as they are.
    """
    return ctx.service(ModelLibrary).vae(vae_name)
