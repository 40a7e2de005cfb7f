"""Nodes that read pictures from files and write them."""

from __future__ import annotations

import hashlib
import json
import random
import string
from typing import Annotated, Any

from limner.engine.context import RunContext
from limner.errors import UnfitInput
from limner.graph.kinds import Result
from limner.graph.node import node
from limner.graph.types import COMBO, Choices, Hidden, InputFiles, Socket, Text
from limner.nodes.fitting import masks
from limner.nodes.pictures import read_channel, read_pictures, to_bytes, write_png
from limner.nodes.sockets import Image, Mask

TEMP_LETTERS = 5
KEY_LIMIT = 79
"""Characters that the name of a text in a PNG may have."""


class OutputFiles(InputFiles):
    """One of the tenant's own earlier pictures (`a.png [output]`); the editor asks the server for their names."""

    def __init__(self) -> None:
        asked = {"route": "/internal/files/output", "refresh_button": True, "control_after_refresh": "first"}
        super().__init__(options={"image_folder": "output", "remote": asked})
        self.type = COMBO


def file_digest(ctx: RunContext, image: str) -> str:
    """The SHA-256 of an input file: what a node that loads it depends on."""
    with ctx.files.input(image).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@node("LoadImage", display_name="Load Image", category="image", fingerprint=file_digest)
def load_image(ctx: RunContext, *, image: Annotated[str, InputFiles("image")]) -> tuple[Image, Mask]:
    """Reads a picture, turned as its camera says; several frames make a batch. The mask is 1 where it is transparent.

    A file that is no picture, is cut short, or would be too large to open is refused.
    """
    return read_pictures(ctx.files.input(image), image)


@node("LoadImageMask", display_name="Load Image (as Mask)", category="mask", fingerprint=file_digest)
def load_mask(
    ctx: RunContext,
    *,
    image: Annotated[str, InputFiles("image")],
    channel: Annotated[str, Choices("alpha", "red", "green", "blue")],
) -> Mask:
    """Reads one channel of a picture as a mask; of alpha, the mask is 1 where the picture is transparent."""
    return read_channel(ctx.files.input(image), image, channel)


@node(
    "LoadImageOutput",
    display_name="Load Image (from Outputs)",
    category="image",
    experimental=True,
    fingerprint=file_digest,
)
def load_output(ctx: RunContext, *, image: Annotated[str, OutputFiles()]) -> tuple[Image, Mask]:
    """Reads a picture that an earlier run has saved. The mask is 1 where it is transparent."""
    return read_pictures(ctx.files.input(image), image)


@node("SaveImage", display_name="Save Image", category="image", outputs=(), output_node=True)
def save_image(
    ctx: RunContext,
    *,
    images: Annotated[Image, Socket("IMAGE", {})],
    filename_prefix: Annotated[str, Text()] = "ComfyUI",
    prompt: Annotated[Any, Hidden("PROMPT")] = None,
    extra_pnginfo: Annotated[Any, Hidden("EXTRA_PNGINFO")] = None,
) -> Result:
    """Writes pictures as PNG files, with the workflow that made them inside."""
    return _write(ctx, images, "output", filename_prefix, png_texts(prompt, extra_pnginfo), compress_level=4)


@node("PreviewImage", display_name="Preview Image", category="image", outputs=(), output_node=True)
def preview_image(
    ctx: RunContext,
    *,
    images: Image,
    prompt: Annotated[Any, Hidden("PROMPT")] = None,
    extra_pnginfo: Annotated[Any, Hidden("EXTRA_PNGINFO")] = None,
) -> Result:
    """Shows pictures; their files are temporary."""
    return _write(ctx, images, "temp", temp_prefix(), png_texts(prompt, extra_pnginfo), compress_level=1)


@node("MaskPreview", category="mask", module="comfy_extras.nodes_mask", outputs=(), output_node=True)
def preview_mask(
    ctx: RunContext,
    *,
    mask: Mask,
    prompt: Annotated[Any, Hidden("PROMPT")] = None,
    extra_pnginfo: Annotated[Any, Hidden("EXTRA_PNGINFO")] = None,
) -> Result:
    """Shows masks as grey pictures, white where they are 1; their files are temporary."""
    grey = masks(mask)[..., None].expand(-1, -1, -1, 3)
    return _write(ctx, grey, "temp", temp_prefix(), png_texts(prompt, extra_pnginfo), compress_level=4)


def temp_prefix() -> str:
    return "ComfyUI_temp_" + "".join(random.choices(string.ascii_lowercase, k=TEMP_LETTERS))


def _write(
    ctx: RunContext, images: Image, type: str, prefix: str, texts: dict[str, str], *, compress_level: int
) -> Result:
    pictures = to_bytes(images)
    _, height, width, _ = pictures.shape
    files = ctx.files.reserve(
        type=type, prefix=prefix, count=len(pictures), width=width, height=height, extension=".png"
    )
    for picture, file in zip(pictures, files, strict=True):
        write_png(picture, file.path, texts, compress_level)
    return Result(ui={"images": [file.ui() for file in files]})


def png_texts(prompt: Any, extra_pnginfo: Any) -> dict[str, str]:
    """The text chunks of a PNG: each value as JSON by Python's defaults, as readers of such files expect."""
    if not isinstance(extra_pnginfo, dict | None):
        raise UnfitInput(f"extra_pnginfo is an object of things to write into pictures, not {extra_pnginfo!r:.100}")
    values = ({} if prompt is None else {"prompt": prompt}) | (extra_pnginfo or {})
    for key in values:
        if not 1 <= len(key) <= KEY_LIMIT or not key.isascii() or not key.isprintable():
            raise UnfitInput(f"extra_pnginfo has the key {key!r:.100}, which a PNG cannot hold")
    return {key: json.dumps(value) for key, value in values.items()}
