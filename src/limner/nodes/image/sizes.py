"""Nodes that change the size of pictures, or tell it."""

from __future__ import annotations

import math
from typing import Annotated, Any

import torch

from limner.engine.context import RunContext
from limner.graph.node import node
from limner.graph.types import Choices, Float, Hidden, Int
from limner.nodes.fitting import pictures
from limner.nodes.memory import check_room
from limner.nodes.scaling import CROPS, METHODS, fitting_size, scale
from limner.nodes.sockets import Image

MEBI = 1024 * 1024
"""Pixels of a megapixel, as this field counts them: 1024 x 1024."""

PADDING = {"white": 1.0, "black": 0.0}


@node("ImageScale", display_name="Upscale Image", category="image/upscaling")
def scale_image(
    *,
    image: Image,
    upscale_method: Annotated[str, Choices(*METHODS)],
    width: Annotated[int, Int(0, 16384, step=1)] = 512,
    height: Annotated[int, Int(0, 16384, step=1)] = 512,
    crop: Annotated[str, Choices(*CROPS)],
) -> Image:
    """Brings pictures to a size in pixels. Where one edge is 0 the proportions are kept; where both are, all is."""
    pictures(image)
    if not width and not height:
        return image
    width, height = fitting_size(image, width, height)
    return _scaled(image, width, height, upscale_method, crop)


@node("ImageScaleBy", display_name="Upscale Image By", category="image/upscaling")
def scale_image_by(
    *,
    image: Image,
    upscale_method: Annotated[str, Choices(*METHODS)],
    scale_by: Annotated[float, Float(0.01, 8, step=0.01)] = 1.0,
) -> Image:
    """Makes pictures larger or smaller by a factor."""
    return _scaled(image, *_times(image, scale_by), upscale_method)


@node(
    "ImageScaleToTotalPixels",
    category="image/upscaling",
    module="comfy_extras.nodes_post_processing",
    schema_style=True,
)
def scale_to_total_pixels(
    *,
    image: Image,
    upscale_method: Annotated[str, Choices(*METHODS)],
    megapixels: Annotated[float, Float(0.01, 16, step=0.01)] = 1.0,
) -> Image:
    """Brings pictures to about this many megapixels (of 1024 x 1024) and keeps their proportions."""
    _, height, width, _ = pictures(image).shape
    return _scaled(image, *_times(image, math.sqrt(megapixels * MEBI / (width * height))), upscale_method)


@node("ImageScaleToMaxDimension", category="image/upscaling", module="comfy_extras.nodes_images")
def scale_to_max_dimension(
    *,
    image: Image,
    upscale_method: Annotated[str, Choices("area", "lanczos", "bilinear", "nearest-exact", "bilinear", "bicubic")],
    largest_size: Annotated[int, Int(0, 16384, step=1)] = 512,
) -> Image:
    """Brings the longer edge of pictures to a length in pixels and keeps their proportions; 0 leaves them alone."""
    _, height, width, _ = pictures(image).shape
    if not largest_size:
        return image
    wide = (largest_size, max(1, round(height / width * largest_size)))
    tall = (max(1, round(width / height * largest_size)), largest_size)
    return _scaled(image, *(wide if width >= height else tall), upscale_method)


@node("ResizeAndPadImage", category="image/transform", module="comfy_extras.nodes_images")
def resize_and_pad(
    *,
    image: Image,
    target_width: Annotated[int, Int(1, 16384, step=1)] = 512,
    target_height: Annotated[int, Int(1, 16384, step=1)] = 512,
    padding_color: Annotated[str, Choices(*PADDING)],
    interpolation: Annotated[str, Choices("area", "bicubic", "nearest-exact", "bilinear", "lanczos")],
) -> Image:
    """Fits pictures into a size with their proportions kept, in the middle of a white or black ground."""
    batch, height, width, channels = pictures(image).shape
    factor = min(target_width / width, target_height / height)
    new_width, new_height = max(1, int(width * factor)), max(1, int(height * factor))
    check_room(batch, target_height, target_width, channels)
    ground = torch.full((batch, target_height, target_width, channels), PADDING[padding_color]).to(image)
    left, top = (target_width - new_width) // 2, (target_height - new_height) // 2
    ground[:, top : top + new_height, left : left + new_width] = scale(image, new_width, new_height, interpolation)
    return ground


@node(
    "GetImageSize",
    display_name="Get Image Size",
    category="image",
    module="comfy_extras.nodes_images",
    outputs={"width": "INT", "height": "INT", "batch_size": "INT"},
)
def image_size(
    ctx: RunContext,
    *,
    image: Image,
    unique_id: Annotated[Any, Hidden("UNIQUE_ID")] = None,  # noqa: ARG001 - part of the recorded signature
) -> tuple[int, int, int]:
    """Tells the width and height of pictures in pixels, and how many there are; the node shows it too."""
    batch, height, width, _ = pictures(image).shape
    ctx.show_text(f"width: {width}, height: {height}\n batch size: {batch}")
    return width, height, batch


def _times(image: Image, factor: float) -> tuple[int, int]:
    _, height, width, _ = pictures(image).shape
    return max(1, round(width * factor)), max(1, round(height * factor))


def _scaled(image: Image, width: int, height: int, method: str, crop: str = "disabled") -> Image:
    check_room(len(image), height, width, image.shape[-1])
    return scale(image, width, height, method, crop)
