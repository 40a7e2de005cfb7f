"""Nodes that make and change pictures."""

from __future__ import annotations

from typing import Annotated

import torch

from limner.errors import UnfitInput
from limner.graph.spec import node
from limner.graph.types import Choices, Int
from limner.nodes.memory import check_room
from limner.nodes.scaling import METHODS, cut_to_proportions, fitting_size, scale
from limner.nodes.sockets import Image


@node("EmptyImage", category="image")
def empty_image(
    *,
    width: Annotated[int, Int(1, 16384, step=1)] = 512,
    height: Annotated[int, Int(1, 16384, step=1)] = 512,
    batch_size: Annotated[int, Int(1, 4096)] = 1,
    color: Annotated[int, Int(0, 0xFFFFFF, step=1, display="color")] = 0,
) -> Image:
    """Pictures of one colour, told as 0xRRGGBB."""
    check_room(batch_size, height, width, 3)
    shades = torch.tensor([color >> 16 & 0xFF, color >> 8 & 0xFF, color & 0xFF]) / 255
    return shades.expand(batch_size, height, width, 3).clone()


@node("ImageScale", display_name="Upscale Image", category="image/upscaling")
def scale_image(
    *,
    image: Image,
    upscale_method: Annotated[str, Choices(*METHODS)],
    width: Annotated[int, Int(0, 16384, step=1)] = 512,
    height: Annotated[int, Int(0, 16384, step=1)] = 512,
    crop: Annotated[str, Choices("disabled", "center")],
) -> Image:
    """Brings pictures to a size in pixels. Where one edge is 0 the proportions are kept; where both are, all is."""
    if 0 in image.shape:
        raise UnfitInput(f"a picture of the shape {tuple(image.shape)} has nothing to scale")
    if not width and not height:
        return image
    width, height = fitting_size(image, width, height)
    check_room(len(image), height, width, image.shape[-1])
    if crop == "center":
        image = cut_to_proportions(image, width, height)
    return scale(image, width, height, upscale_method)


@node("ImageInvert", display_name="Invert Image", category="image")
def invert_image(*, image: Image) -> Image:
    """Turns every colour into its opposite."""
    return 1 - image
