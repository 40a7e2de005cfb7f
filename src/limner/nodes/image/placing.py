"""Nodes that turn, mirror and cut pictures, put them side by side, or give them a margin."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor

from limner.graph.node import node
from limner.graph.types import Choices, Flag, Int
from limner.nodes.fitting import alike, counted, pictures
from limner.nodes.memory import check_room
from limner.nodes.scaling import scale
from limner.nodes.sockets import Image, Mask

QUARTERS = {"none": 0, "90 degrees": 1, "180 degrees": 2, "270 degrees": 3}
"""Clockwise turns by name."""

FLIPS = {"x-axis: vertically": "rows", "y-axis: horizontally": "columns"}

COLOURS = {
    "white": (1.0, 1.0, 1.0),
    "black": (0.0, 0.0, 0.0),
    "red": (1.0, 0.0, 0.0),
    "green": (0.0, 1.0, 0.0),
    "blue": (0.0, 0.0, 1.0),
}
SIDEWAYS = ("right", "left")
GREY = 0.5


@node("ImageCrop", display_name="Image Crop", category="image/transform", module="comfy_extras.nodes_images")
def crop_image(
    *,
    image: Image,
    width: Annotated[int, Int(1, 16384, step=1)] = 512,
    height: Annotated[int, Int(1, 16384, step=1)] = 512,
    x: Annotated[int, Int(0, 16384, step=1)] = 0,
    y: Annotated[int, Int(0, 16384, step=1)] = 0,
) -> Image:
    """Cuts a part out of pictures. What would lie outside is left out; at least one pixel remains."""
    counted(width=width, height=height, x=x, y=y)
    _, now_height, now_width, _ = pictures(image).shape
    left, top = min(x, now_width - 1), min(y, now_height - 1)
    return image[:, top : top + height, left : left + width]


@node("ImageRotate", category="image/transform", module="comfy_extras.nodes_images")
def rotate_image(*, image: Image, rotation: Annotated[str, Choices(*QUARTERS)]) -> Image:
    """Turns pictures clockwise by quarters."""
    return torch.rot90(pictures(image), k=QUARTERS[rotation], dims=[2, 1])


@node("ImageFlip", category="image/transform", module="comfy_extras.nodes_images")
def flip_image(*, image: Image, flip_method: Annotated[str, Choices(*FLIPS)]) -> Image:
    """Mirrors pictures: vertically (upside down) or horizontally (left to right)."""
    return pictures(image).flip(1 if FLIPS[flip_method] == "rows" else 2)


@node("ImageStitch", display_name="Image Stitch", category="image/transform", module="comfy_extras.nodes_images")
def stitch_images(
    *,
    image1: Image,
    direction: Annotated[str, Choices("right", "down", "left", "up", options={})] = "right",
    match_image_size: Annotated[bool, Flag()] = True,
    spacing_width: Annotated[int, Int(0, 1024, step=2)] = 0,
    spacing_color: Annotated[str, Choices(*COLOURS, options={})] = "white",
    image2: Image | None = None,
) -> Image:
    """Puts a second picture beside, below or above the first one, with a coloured gap between them if wanted.

    Matched, the second is scaled to the first one's height or width; unmatched, the smaller one gets a margin of the
    gap's colour. Of batches of different length the shorter one repeats its last picture.
    """
    first = pictures(image1, "image1")
    if image2 is None:
        return first
    second, sideways = pictures(image2, "image2").to(first), direction in SIDEWAYS
    first, second = _as_long(first, len(second)), _as_long(second, len(first))
    if match_image_size:
        second = scale(second, *_matching_size(first, second, sideways=sideways), "lanczos")
    first, second = alike(first, second)
    if not match_image_size:
        edge = 1 if sideways else 2
        most = max(first.shape[edge], second.shape[edge])
        first, second = (_padded(each, edge, most, COLOURS[spacing_color]) for each in (first, second))
    check_room(first.numel() + second.numel())
    batch, height, width, _ = first.shape
    gap_width = spacing_width + spacing_width % 2
    gap_shape = (batch, height, gap_width) if sideways else (batch, gap_width, width)
    gap = _ground(gap_shape, COLOURS[spacing_color], first)
    parts = [first, gap, second] if direction in ("right", "down") else [second, gap, first]
    return torch.cat(parts, dim=2 if sideways else 1)


@node("ImagePadForOutpaint", display_name="Pad Image for Outpainting", category="image")
def pad_for_outpaint(
    *,
    image: Image,
    left: Annotated[int, Int(0, 16384, step=8)] = 0,
    top: Annotated[int, Int(0, 16384, step=8)] = 0,
    right: Annotated[int, Int(0, 16384, step=8)] = 0,
    bottom: Annotated[int, Int(0, 16384, step=8)] = 0,
    feathering: Annotated[int, Int(0, 16384, step=1)] = 40,
) -> tuple[Image, Mask]:
    """Gives pictures a grey margin, and a mask of what is to be painted there.

    feathering: over so many pixels the mask reaches into the old picture, fading. A picture that is not more than twice
    as high and wide gets none.
    """
    counted(left=left, top=top, right=right, bottom=bottom)
    batch, height, width, channels = pictures(image).shape
    check_room(batch, height + top + bottom, width + left + right, channels)
    padded = torch.full((batch, height + top + bottom, width + left + right, channels), GREY).to(image)
    padded[:, top : top + height, left : left + width] = image
    mask = torch.ones(padded.shape[1:3])
    fade = torch.zeros(height, width)
    if 0 < 2 * feathering < min(height, width):
        rows = _distance(height, before=top, after=bottom, far=feathering)
        columns = _distance(width, before=left, after=right, far=feathering)
        near = torch.minimum(rows[:, None], columns)
        fade = ((feathering - near) / feathering) ** 2
    mask[top : top + height, left : left + width] = fade
    return padded, mask[None]


def _distance(size: int, *, before: int, after: int, far: int) -> Tensor:
    """How far each place is from the ends of its row that have a margin, `far` at the most."""
    places = torch.arange(size, dtype=torch.float32)
    distance = torch.full_like(places, far)
    if before:
        distance = torch.minimum(distance, places)
    if after:
        distance = torch.minimum(distance, size - places)
    return distance


def _as_long(batch: Tensor, count: int) -> Tensor:
    missing = max(0, count - len(batch))
    return torch.cat([batch, batch[-1:].expand(missing, -1, -1, -1)])


def _matching_size(first: Tensor, second: Tensor, *, sideways: bool) -> tuple[int, int]:
    (_, height, width, _), (_, other_height, other_width, _) = first.shape, second.shape
    proportion = other_width / other_height
    if sideways:
        return max(1, int(height * proportion)), height
    return width, max(1, int(width / proportion))


def _padded(image: Tensor, edge: int, size: int, colour: tuple[float, ...]) -> Tensor:
    """A picture in the middle of a ground that is as long as `size` at this edge (1 height, 2 width)."""
    shape = list(image.shape[:3])
    now, shape[edge] = shape[edge], size
    ground = _ground(tuple(shape), colour, image)
    ground.narrow(edge, (size - now) // 2, now).copy_(image)
    return ground


def _ground(shape: tuple[int, ...], colour: tuple[float, ...], like: Tensor) -> Tensor:
    """A plain picture with the channels of another one; alpha is opaque."""
    shades = torch.tensor([*colour, 1.0] if like.shape[-1] > len(colour) else colour[: like.shape[-1]])
    return shades.to(like).expand(*shape, like.shape[-1]).clone()
