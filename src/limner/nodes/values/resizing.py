"""Nodes that resize a picture or a mask in one of many ways, and that join pictures."""

from __future__ import annotations

import math
from typing import Annotated, Any

import torch
from torch import Tensor

from limner.errors import UnfitInput
from limner.graph.node import node
from limner.graph.spec import OutputSpec
from limner.graph.types import MATCHING, Choices, Float, Follows, Grows, Int, Marker, Matches, Socket
from limner.nodes.fitting import masks, pictures, with_channels
from limner.nodes.memory import check_room
from limner.nodes.scaling import CROPS, METHODS, fitting_size, scale
from limner.nodes.sockets import Image
from limner.nodes.values.sizes import MEGAPIXEL

EITHER = "IMAGE,MASK"
MODULE = "comfy_extras.nodes_post_processing"


def _edge() -> Int:
    return Int(0, 8192, step=1, default=512)


CROP: Marker = Choices(*CROPS, options={"default": "center"})
WAYS: dict[str, dict[str, Marker]] = {
    "scale dimensions": {"width": _edge(), "height": _edge(), "crop": CROP},
    "scale by multiplier": {"multiplier": Float(0.01, 8, step=0.01, default=1.0)},
    "scale longer dimension": {"longer_size": _edge()},
    "scale shorter dimension": {"shorter_size": _edge()},
    "scale width": {"width": _edge()},
    "scale height": {"height": _edge()},
    "scale total pixels": {"megapixels": Float(0.01, 16, step=0.01, default=1.0)},
    "match size": {"match": Socket(EITHER), "crop": CROP},
    "scale to multiple": {"multiple": Int(1, 8192, step=1, default=8)},
}


@node(
    "ResizeImageMaskNode",
    display_name="Resize Image/Mask",
    category="transform",
    module=MODULE,
    schema_style=True,
    outputs=(OutputSpec(name="resized", type=MATCHING, any_type=True),),
)
def resize(
    *,
    input: Annotated[Tensor, Matches("input_type", allowed=EITHER)],
    resize_type: Annotated[str, Follows(WAYS)],
    scale_method: Annotated[str, Choices(*METHODS)] = "area",
    **given: Any,
) -> Tensor:
    """Brings pictures or masks to another size: a factor, edges, an area, the size of others, or a multiple.

    Where only one edge is told, or one is 0, the proportions are kept. "scale to multiple" takes the largest size whose
    edges are multiples, and cuts off at the edges what the proportions leave over.
    """
    options = {name.removeprefix("resize_type."): value for name, value in given.items()}
    missing = [name for name in WAYS.get(resize_type, {}) if name not in options]
    if resize_type not in WAYS or missing:
        raise UnfitInput(
            f"to resize by {resize_type!r:.100}, {' and '.join(missing)} must be given"
            if missing
            else f"the way to resize {resize_type!r:.100} is none of {', '.join(WAYS)}"
        )
    is_mask = input.ndim == 3
    image = masks(input, "input")[..., None] if is_mask else pictures(input, "input")
    width, height = _new_size(image, resize_type, options)
    if width < 1 or height < 1:
        raise UnfitInput(f"a size of {width} x {height} pixels; each edge must have at least one")
    crop = "center" if resize_type == "scale to multiple" else options.get("crop", "disabled")
    if (height, width) == image.shape[1:3]:
        return input
    check_room(len(image), height, width, image.shape[-1])
    resized = scale(image, width, height, scale_method, crop)
    return resized[..., 0] if is_mask else resized


@node(
    "BatchImagesNode",
    display_name="Batch Images",
    category="image",
    module=MODULE,
    schema_style=True,
)
def batch_images(**images: Annotated[Tensor, Grows(Socket("IMAGE"), prefix="image", least=2, most=50)]) -> Image:
    """Joins two or more pictures to one batch. Those of another size than the first are brought to its size."""
    parts = [pictures(images[name], name) for name in sorted(images, key=_slot)]
    if not parts:
        raise UnfitInput("no picture is connected")
    height, width = parts[0].shape[1:3]
    channels = max(part.shape[-1] for part in parts)
    check_room(sum(map(len, parts)), height, width, channels)
    alike = [with_channels(part, channels) for part in parts]
    return torch.cat([_fitted(part, width, height).to(parts[0].device) for part in alike])


def _new_size(image: Tensor, way: str, options: dict[str, Any]) -> tuple[int, int]:
    """Width and height that one of WAYS asks for."""
    height, width = image.shape[1:3]
    if way in ("scale dimensions", "scale width", "scale height"):
        wanted = options.get("width", 0), options.get("height", 0)
        return fitting_size(image, *wanted) if any(wanted) else (width, height)
    if way == "match size":
        match = options["match"]
        shape = pictures(match, "match").shape[1:3] if match.ndim == 4 else masks(match, "match").shape[1:]
        return shape[1], shape[0]
    if way == "scale to multiple":
        multiple = options["multiple"]
        return width // multiple * multiple or width, height // multiple * multiple or height
    factor = _factor(way, width, height, options)
    if not 0 < factor < math.inf:
        raise UnfitInput(f"{way!r} cannot make pictures {factor} times as large")
    return max(1, round(width * factor)), max(1, round(height * factor))


def _factor(way: str, width: int, height: int, options: dict[str, Any]) -> float:
    if way == "scale longer dimension":
        return float(options["longer_size"] / max(width, height))
    if way == "scale shorter dimension":
        return float(options["shorter_size"] / min(width, height))
    if way == "scale total pixels":
        return math.sqrt(options["megapixels"] * MEGAPIXEL / (width * height))
    return float(options["multiplier"])


def _fitted(part: Tensor, width: int, height: int) -> Tensor:
    return part if part.shape[1:3] == (height, width) else scale(part, width, height, "bilinear", "center")


def _slot(name: str) -> tuple[int, str]:
    number = name.rpartition("image")[2]
    return (int(number) if number.isdecimal() else 0), name
