"""Nodes that place things into boxes."""

from __future__ import annotations

from typing import Annotated, Any

from torch import Tensor

from limner.engine.context import RunContext
from limner.errors import UnfitInput
from limner.graph.node import node
from limner.graph.types import Files, Int, Text
from limner.models.gligen import load_gligen
from limner.models.library import ModelLibrary
from limner.nodes.sockets import Clip, Conditioning, Gligen

PLACE_PX = 8
"""Edge in pixels of a place of the latent."""


def _file(ctx: RunContext, gligen_name: str) -> Any:
    return ctx.service(ModelLibrary).fingerprint("gligen", gligen_name)


@node("GLIGENLoader", category="loaders", fingerprint=_file)
def load_boxes(ctx: RunContext, *, gligen_name: Annotated[str, Files("gligen")]) -> Gligen:
    """Loads a GLIGEN model, which places things into boxes."""
    library = ctx.service(ModelLibrary)
    return library.kept("gligen", gligen_name, lambda path: load_gligen(path, library.devices))


@node("GLIGENTextBoxApply", category="conditioning/gligen")
def place_in_box(
    *,
    conditioning_to: Conditioning,
    clip: Clip,
    gligen_textbox_model: Gligen,
    text: Annotated[str, Text(multiline=True, dynamic_prompts=True)],
    width: Annotated[int, Int(8, 16384, step=8)] = 64,
    height: Annotated[int, Int(8, 16384, step=8)] = 64,
    x: Annotated[int, Int(0, 16384, step=8)] = 0,
    y: Annotated[int, Int(0, 16384, step=8)] = 0,
) -> Conditioning:
    """Places what a text names into a box, told in pixels. Several may follow one another, 30 at most."""
    _, phrase = clip.encode_from_tokens(clip.tokenize(text), return_pooled="unprojected")
    if not isinstance(phrase, Tensor):
        raise UnfitInput("GLIGEN needs a text encoder of CLIP, which gives one vector for a phrase")
    box = (phrase, height // PLACE_PX, width // PLACE_PX, y // PLACE_PX, x // PLACE_PX)
    placed: Conditioning = []
    for told, extras in conditioning_to:
        before = extras["gligen"][2] if "gligen" in extras else []
        placed.append((told, {**extras, "gligen": ("position", gligen_textbox_model, [*before, box])}))
    return placed
