"""A node that writes pictures with a choice of formats: PNG, OpenEXR and AVIF, of several depths."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from torch import Tensor

from limner.engine.context import RunContext
from limner.errors import UnfitInput
from limner.graph.kinds import Result
from limner.graph.node import node
from limner.graph.types import Choices, Float, Follows, Int, Text
from limner.nodes.fitting import pictures
from limner.nodes.image.files import png_texts
from limner.nodes.media import colours
from limner.nodes.media.avif import HLG, PQ, SRGB, Motion, write_avif
from limner.nodes.media.deep_png import write_png16
from limner.nodes.media.exr import write_exr
from limner.nodes.media.saving import ExtraInfo, Prompt
from limner.nodes.pictures import to_bytes, write_png
from limner.nodes.sockets import Image

COMPRESS_LEVEL = 4
ALPHA = 3

PNG_DEPTHS = ("8-bit", "16-bit")
EXR_DEPTHS = ("16-bit float", "32-bit float")
EXR_SPACES = ("sRGB", "HDR", "linear", "linear ACEScg")
AVIF_DEPTHS = {"auto": None, "8-bit YUV420": 8, "10-bit YUV420": 10}
AVIF_SPACES = {"sRGB": SRGB, "HDR": HLG, "HDR PQ": PQ}

FORMATS = Follows({
    "png": {"bit_depth": Choices(*PNG_DEPTHS, options={"default": "8-bit"}), "input_color_space": Choices("sRGB")},
    "exr": {
        "bit_depth": Choices(*EXR_DEPTHS, options={"default": "16-bit float"}),
        "input_color_space": Choices(*EXR_SPACES, options={"default": "sRGB"}),
    },
    "avif": {
        "bit_depth": Choices(*AVIF_DEPTHS, options={"default": "auto"}),
        "input_color_space": Choices(*AVIF_SPACES, options={"default": "sRGB"}),
        "crf": Int(1, 63, default=20),
        "save_mode": Follows({
            "still images": {},
            "animated": {"fps": Float(0.01, 1000, step=0.01, default=6.0), "loop_count": Int(0, 1000, default=0)},
        }),
    },
})  # fmt: skip


@node(
    "SaveImageAdvanced",
    display_name="Save Image (Advanced)",
    category="image",
    module="comfy_extras.nodes_images",
    schema_style=True,
    outputs={"images": "IMAGE"},
    output_node=True,
)
def save_image_advanced(
    ctx: RunContext,
    *,
    images: Image,
    filename_prefix: Annotated[str, Text()] = "ComfyUI",
    format: Annotated[str, FORMATS],
    prompt: Prompt = None,
    extra_pnginfo: ExtraInfo = None,
    **given: Any,
) -> Result:
    """Writes pictures as PNG (8 or 16 bits), OpenEXR (16- or 32-bit floats of linear light) or AVIF.

    PNG and EXR take grey, coloured and transparent pictures, AVIF the former two. The workflow is
    inside, and the pictures are handed on.
    """
    inside = png_texts(prompt, extra_pnginfo)
    options = _Options(format, given)
    batch, height, width, channels = pictures(images, "images").shape
    if channels not in ((1, 3) if format == "avif" else (1, 3, 4)):
        raise UnfitInput(f"pictures of {channels} channels cannot be written as {format}")
    values = images.detach().float().cpu()
    motion = options.motion() if format == "avif" else None
    files = ctx.files.reserve(
        type="output",
        prefix=filename_prefix,
        count=1 if motion else batch,
        width=width,
        height=height,
        extension=f".{format}",
    )
    for number, file in enumerate(files):
        part = values if motion else values[number : number + 1]
        if format == "png":
            _write_png(part, file.path, options, inside)
        elif format == "exr":
            _write_exr(part[0], file.path, options, inside)
        else:
            _write_avif(part, file.path, options, motion, inside)
        ctx.check()
    ui: dict[str, list[Any]] = {"images": [file.ui() for file in files]}
    return Result(values=(images,), ui=ui | ({"animated": [True]} if motion else {}))


class _Options:
    """What the chosen format asks for: its inputs, by their own names. Raises UnfitInput."""

    def __init__(self, format: str, given: Mapping[str, Any]) -> None:
        if format not in ("png", "exr", "avif"):
            raise UnfitInput(f"the format {format!r:.50} is none of png, exr, avif")
        self._format = format
        self._given = {name.removeprefix("format."): value for name, value in given.items()}

    def one_of(self, name: str, *allowed: str) -> str:
        value = self._get(name)
        if value not in allowed:
            raise UnfitInput(f"the {name} {value!r:.50} of {self._format} is none of {', '.join(allowed)}")
        return str(value)

    def crf(self) -> int:
        value = self._get("crf")
        if not isinstance(value, int) or not 1 <= value <= 63:
            raise UnfitInput(f"the crf {value!r:.50} is no whole number of 1 to 63")
        return value

    def motion(self) -> Motion | None:
        if self.one_of("save_mode", "still images", "animated") == "still images":
            return None
        return Motion(fps=self._get("save_mode.fps"), loops=self._get("save_mode.loop_count"))

    def _get(self, name: str) -> Any:
        if name not in self._given:
            raise UnfitInput(f"to write {self._format}, {name} must be given")
        return self._given[name]


def _write_png(images: Tensor, path: Path, options: _Options, inside: Mapping[str, str]) -> None:
    options.one_of("input_color_space", "sRGB")
    if options.one_of("bit_depth", *PNG_DEPTHS) == "8-bit":
        write_png(to_bytes(images)[0], path, dict(inside), COMPRESS_LEVEL)
    else:
        write_png16((_bounded(images)[0] * 65535).round().astype(np.uint16), path, inside)


def _write_exr(image: Tensor, path: Path, options: _Options, inside: Mapping[str, str]) -> None:
    space = options.one_of("input_color_space", *EXR_SPACES)
    half = options.one_of("bit_depth", *EXR_DEPTHS) == "16-bit float"
    light = {"sRGB": colours.light_of_srgb, "HDR": colours.light_of_hlg}.get(space)
    primaries = {"HDR": colours.REC2020, "linear ACEScg": colours.AP1}.get(space, colours.REC709)
    image = image.nan_to_num(0)
    if light is not None:  # transparency is no light
        image = torch.cat([light(image[..., :ALPHA]), image[..., ALPHA:]], dim=-1)
    write_exr(image.numpy(), path, half=half, colours=primaries, texts=inside)


def _write_avif(
    images: Tensor, path: Path, options: _Options, motion: Motion | None, inside: Mapping[str, str]
) -> None:
    space = AVIF_SPACES[options.one_of("input_color_space", *AVIF_SPACES)]
    bits = AVIF_DEPTHS[options.one_of("bit_depth", *AVIF_DEPTHS)] or (8 if space is SRGB else 10)
    write_avif(_bounded(images), path, bits=bits, crf=options.crf(), colours=space, motion=motion, texts=inside)


def _bounded(images: Tensor) -> np.ndarray:
    values: np.ndarray = images.nan_to_num(0).clamp(0, 1).numpy()
    return values
