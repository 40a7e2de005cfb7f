"""Nodes that enlarge pictures by a network."""

from __future__ import annotations

from typing import Annotated, Any

from limner.engine.context import RunContext
from limner.graph.node import node
from limner.graph.types import Files
from limner.models.library import ModelLibrary
from limner.models.upscale.model import load_upscale_model
from limner.nodes.memory import check_room
from limner.nodes.sockets import Image, UpscaleModel

MODULE = "comfy_extras.nodes_upscale_model"


def _file(ctx: RunContext, model_name: str) -> Any:
    return ctx.service(ModelLibrary).fingerprint("upscale_models", model_name)


@node(
    "UpscaleModelLoader",
    display_name="Load Upscale Model",
    category="loaders",
    module=MODULE,
    schema_style=True,
    fingerprint=_file,
)
def load_upscaler(ctx: RunContext, *, model_name: Annotated[str, Files("upscale_models")]) -> UpscaleModel:
    """Loads a network that enlarges pictures (ESRGAN, SwinIR, HAT, DAT, SPAN and others), or one that cleans them."""
    library = ctx.service(ModelLibrary)
    return library.kept("upscale_models", model_name, lambda path: load_upscale_model(path, library.devices.device))


@node(
    "ImageUpscaleWithModel",
    display_name="Upscale Image (using Model)",
    category="image/upscaling",
    module=MODULE,
    schema_style=True,
)
def upscale_with_model(ctx: RunContext, *, upscale_model: UpscaleModel, image: Image) -> Image:
    """Enlarges pictures by a network, as many times as it was trained for. Transparency is left out.

    It goes over the picture tile by tile; where memory is short, in smaller tiles.
    """
    if image.ndim == 4:
        check_room(len(image), image.shape[1] * upscale_model.scale, image.shape[2] * upscale_model.scale, 3)
    return upscale_model.upscale(image, lambda done, total: ctx.progress(done, total))
