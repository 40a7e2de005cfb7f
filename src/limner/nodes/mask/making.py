"""Nodes that make masks, and turn pictures into masks and back."""

from __future__ import annotations

from typing import Annotated

import torch

from limner.errors import UnfitInput
from limner.graph.node import node
from limner.graph.types import Choices, Float, Int
from limner.nodes.fitting import coloured, masks, pictures
from limner.nodes.memory import check_room
from limner.nodes.sockets import Image, Mask

MODULE = "comfy_extras.nodes_mask"
CHANNELS = ("red", "green", "blue", "alpha")


@node("SolidMask", category="mask", module=MODULE)
def solid_mask(
    *,
    value: Annotated[float, Float(0, 1, step=0.01)] = 1.0,
    width: Annotated[int, Int(1, 16384, step=1)] = 512,
    height: Annotated[int, Int(1, 16384, step=1)] = 512,
) -> Mask:
    """A mask that is the same everywhere."""
    check_room(height, width)
    return torch.full((1, height, width), value)


@node("ImageToMask", display_name="Convert Image to Mask", category="mask", module=MODULE)
def image_to_mask(*, image: Image, channel: Annotated[str, Choices(*CHANNELS)]) -> Mask:
    """Takes one channel of pictures as a mask."""
    place, count = CHANNELS.index(channel), pictures(image).shape[-1]
    if place >= count:
        raise UnfitInput(f"the picture has {count} channel(s) and so no {channel}")
    return image[..., place]


@node("MaskToImage", display_name="Convert Mask to Image", category="mask", module=MODULE)
def mask_to_image(*, mask: Mask) -> Image:
    """Shows masks as grey pictures, white where they are 1."""
    return masks(mask)[..., None].expand(-1, -1, -1, 3)


@node("ImageColorToMask", category="mask", module=MODULE)
def color_to_mask(*, image: Image, color: Annotated[int, Int(0, 0xFFFFFF, step=1, display="color")] = 0) -> Mask:
    """A mask of all pixels of just this colour, told as 0xRRGGBB."""
    red, green, blue = coloured(image)[..., :3].clamp(0, 1).mul(255).round().int().unbind(-1)
    return ((red << 16 | green << 8 | blue) == color).to(image.dtype)
