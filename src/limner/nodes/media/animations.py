"""Nodes that write pictures as one moving picture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
from PIL import Image as Pictures
from PIL.PngImagePlugin import PngInfo

from limner.engine.context import RunContext
from limner.errors import UnfitInput
from limner.graph.file_types import BROKEN_PICTURE
from limner.graph.kinds import Result
from limner.graph.node import node
from limner.graph.types import Choices, Flag, Float, Int, Text
from limner.nodes.media.saving import ExtraInfo, Prompt, texts
from limner.nodes.pictures import to_bytes
from limner.nodes.sockets import Image

MODULE, CATEGORY = "comfy_extras.nodes_images", "image/animation"
METHODS = {"default": 4, "fastest": 0, "slowest": 6}

EXIF_MODEL, EXIF_MAKE = 0x0110, 0x010F
"""The tags that hold the prompt, and, counting down, the other texts: "name:JSON". Editors look there."""

Prefix = Annotated[str, Text()]
PerSecond = Annotated[float, Float(0.01, 1000, step=0.01)]


@node("SaveAnimatedWEBP", category=CATEGORY, module=MODULE, outputs=(), output_node=True)
def save_animated_webp(
    ctx: RunContext,
    *,
    images: Image,
    filename_prefix: Prefix = "ComfyUI",
    fps: PerSecond = 6.0,
    lossless: Annotated[bool, Flag()] = True,
    quality: Annotated[int, Int(0, 100)] = 80,
    method: Annotated[str, Choices(*METHODS)],
    prompt: Prompt = None,
    extra_pnginfo: ExtraInfo = None,
) -> Result:
    """Writes pictures as one moving WebP picture, with the workflow inside.

    Where it is lossless, a higher quality means a smaller file that takes longer to write.
    """
    if method not in METHODS:
        raise UnfitInput(f"the method {method!r:.50} is none of {', '.join(METHODS)}")
    exif = exif_texts(texts(prompt, extra_pnginfo))
    options = {"lossless": lossless, "quality": quality, "method": METHODS[method], "exif": exif}
    return _write(ctx, images, filename_prefix, "WEBP", fps, options)


@node("SaveAnimatedPNG", category=CATEGORY, module=MODULE, outputs=(), output_node=True)
def save_animated_png(
    ctx: RunContext,
    *,
    images: Image,
    filename_prefix: Prefix = "ComfyUI",
    fps: PerSecond = 6.0,
    compress_level: Annotated[int, Int(0, 9)] = 4,
    prompt: Prompt = None,
    extra_pnginfo: ExtraInfo = None,
) -> Result:
    """Writes pictures as one moving PNG picture, with the workflow inside."""
    chunks = PngInfo()
    for key, text in texts(prompt, extra_pnginfo).items():
        chunks.add_text(key, text)
    return _write(ctx, images, filename_prefix, "PNG", fps, {"compress_level": compress_level, "pnginfo": chunks})


def exif_texts(inside: Mapping[str, str]) -> Pictures.Exif:
    """Texts as EXIF: the prompt under Model, all others from Make downwards, each with its name before it."""
    exif = Pictures.Exif()
    free = EXIF_MAKE
    for key, text in inside.items():
        if key == "prompt":
            exif[EXIF_MODEL] = f"{key}:{text}"
        else:
            exif[free] = f"{key}:{text}"
            free -= 1
    return exif


def milliseconds(fps: float) -> int:
    """How long a picture is shown, whole milliseconds and at least one. Raises UnfitInput."""
    if not 0 < fps < float("inf"):
        raise UnfitInput(f"{fps} pictures a second; a number above 0 is wanted")
    return max(1, round(1000 / fps))


def as_pictures(values: np.ndarray) -> list[Pictures.Image]:
    """8-bit values (B, H, W, C) as pictures of Pillow."""
    return [Pictures.fromarray(each[..., 0] if each.shape[-1] == 1 else each) for each in values]


def _write(ctx: RunContext, images: Image, prefix: str, kind: str, fps: float, options: dict[str, Any]) -> Result:
    first, *others = as_pictures(to_bytes(images))
    shown_ms = milliseconds(fps)
    (file,) = ctx.files.reserve(
        type="output", prefix=prefix, count=1, width=first.width, height=first.height, extension=f".{kind.lower()}"
    )
    try:
        first.save(file.path, kind, save_all=True, append_images=others, duration=shown_ms, **options)
    except (*BROKEN_PICTURE, RuntimeError) as error:  # the latter from libwebp
        raise UnfitInput(
            f"{1 + len(others)} pictures of {first.width} x {first.height} pixels cannot be written as {kind}: {error}"
        ) from error
    return Result(ui={"images": [file.ui()], "animated": [True]})
