"""Drawings as SVG."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Sequence
from typing import Annotated

from limner.engine.context import RunContext
from limner.errors import UnfitInput
from limner.graph.kinds import Result
from limner.graph.node import node
from limner.graph.types import Socket, Text
from limner.nodes.media.saving import ExtraInfo, Prompt, texts

_START = re.compile(rb"<svg(?=[\s/>])")
_TAG = re.compile(rb"<svg(?:\"[^\"]*\"|'[^']*'|[^>\"'])*>")


class SVG:
    """Drawings: what an SVG socket carries. data: a file's content each."""

    def __init__(self, data: Sequence[io.BytesIO]) -> None:
        self.data = list(data)

    def combine(self, other: SVG) -> SVG:
        """The drawings of both."""
        return SVG([*self.data, *other.data])

    @staticmethod
    def combine_all(svgs: Sequence[SVG]) -> SVG:
        """The drawings of all."""
        return SVG([each for svg in svgs for each in svg.data])


@node(
    "SaveSVGNode",
    category="image/save",
    module="comfy_extras.nodes_images",
    outputs=(),
    output_node=True,
)
def save_svg(
    ctx: RunContext,
    *,
    svg: Annotated[SVG, Socket("SVG")],
    filename_prefix: Annotated[str, Text()] = "svg/ComfyUI",
    prompt: Prompt = None,
    extra_pnginfo: ExtraInfo = None,
) -> Result:
    """Writes drawings as SVG files, with the workflow in their metadata."""
    inside = {key: json.loads(text) for key, text in texts(prompt, extra_pnginfo).items()}
    drawings = [with_metadata(each.getvalue(), json.dumps(inside)) if inside else each.getvalue() for each in svg.data]
    if not drawings:
        raise UnfitInput("there is no drawing to write")
    files = ctx.files.reserve(
        type="output", prefix=filename_prefix, count=len(drawings), width=0, height=0, extension=".svg"
    )
    for drawing, file in zip(drawings, files, strict=True):
        file.path.write_bytes(drawing)
    return Result(ui={"images": [file.ui() for file in files]})


def with_metadata(drawing: bytes, text: str) -> bytes:
    """The drawing with a text as its first element, <metadata>. Raises UnfitInput where there is no <svg> element."""
    start = _START.search(drawing)
    opening = _TAG.match(drawing, start.start()) if start else None  # only there: from every place would take for ever
    if opening is None:
        raise UnfitInput(f"{drawing[:60]!r} is no SVG drawing: it has no <svg> element")
    head, tag, rest = drawing[: opening.start()], opening[0], drawing[opening.end() :]
    if tag.endswith(b"/>"):
        tag, rest = tag[:-2] + b">", b"</svg>" + rest
    safe = text.replace("]]>", "]]]]><![CDATA[>").encode()
    return head + tag + b"<metadata><![CDATA[" + safe + b"]]></metadata>" + rest
