"""Nodes that show values and pictures in the editor."""

from __future__ import annotations

import json
from typing import Annotated, Any

from limner.engine.context import RunContext
from limner.graph.kinds import Result
from limner.graph.node import node
from limner.graph.types import Socket
from limner.nodes.image.files import png_texts
from limner.nodes.media.saving import ExtraInfo, Prompt
from limner.nodes.pictures import to_bytes, write_png
from limner.nodes.sockets import Image

LONGEST_SHOWN = 100_000


@node(
    "PreviewAny",
    display_name="Preview Any",
    category="utils",
    module="comfy_extras.nodes_preview_any",
    outputs=(),
    output_node=True,
)
def preview_any(*, source: Annotated[Any, Socket("*", {})]) -> Result:
    """Shows any value as a text."""
    text = _as_text(source)
    more = f"... ({len(text)} characters)" if len(text) > LONGEST_SHOWN else ""
    return Result(ui={"text": [text[:LONGEST_SHOWN] + more]})


@node(
    "ImageCompare",
    display_name="Image Compare",
    category="image",
    module="comfy_extras.nodes_image_compare",
    schema_style=True,
    experimental=True,
    outputs=(),
    output_node=True,
)
def compare_images(
    ctx: RunContext,
    *,
    image_a: Image | None = None,
    image_b: Image | None = None,
    compare_view: Annotated[Any, Socket("IMAGECOMPARE", {"socketless": True})] = None,  # noqa: ARG001 - the editor draws there
    prompt: Prompt = None,
    extra_pnginfo: ExtraInfo = None,
) -> Result:
    """Shows two batches of pictures, one over the other; their files are temporary."""
    inside = png_texts(prompt, extra_pnginfo)
    shown: dict[str, list[Any]] = {"a_images": [], "b_images": []}
    for side, images in (("a", image_a), ("b", image_b)):
        if images is None:
            continue
        values = to_bytes(images)
        _, height, width, _ = values.shape
        files = ctx.files.reserve(
            type="temp",
            prefix=f"comfy.compare.{side}",
            count=len(values),
            width=width,
            height=height,
            extension=".png",
        )
        for picture, file in zip(values, files, strict=True):
            write_png(picture, file.path, inside, compress_level=1)
        shown[f"{side}_images"] = [file.ui() for file in files]
    return Result(ui=shown)


def _as_text(value: Any) -> str:
    """Texts as they are, numbers as Python writes them, other values as JSON, or as they describe themselves."""
    if value is None or isinstance(value, str | int | float):
        return str(value)
    try:
        return json.dumps(value, indent=4)
    except (TypeError, ValueError, RecursionError):
        return _described(value)


def _described(value: Any) -> str:
    try:
        return str(value)
    except Exception as error:  # what a pack's object raises may be anything
        return f"a value of the type {type(value).__name__}, which cannot be shown: {error}"
