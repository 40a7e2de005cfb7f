"""Nodes that put pictures into batches and take them out."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor

from limner.errors import UnfitInput
from limner.graph.node import node
from limner.graph.spec import OutputSpec
from limner.graph.types import Int, Socket
from limner.nodes.fitting import alike, counted, pictures
from limner.nodes.memory import check_room
from limner.nodes.scaling import scale
from limner.nodes.sockets import Image


@node("ImageBatch", display_name="Batch Images", category="image")
def batch_images(*, image1: Image, image2: Image) -> Image:
    """Joins pictures into one batch. The second ones are brought to the size of the first, cut in the middle."""
    first, second = alike(pictures(image1, "image1"), pictures(image2, "image2"))
    _, height, width, channels = first.shape
    check_room(len(first) + len(second), height, width, channels)
    if second.shape[1:3] != (height, width):
        second = scale(second, width, height, "bilinear", "center")
    return torch.cat([first, second.to(first)])


@node("RepeatImageBatch", category="image/batch", module="comfy_extras.nodes_images")
def repeat_batch(*, image: Image, amount: Annotated[int, Int(1, 4096)] = 1) -> Image:
    """Repeats a batch of pictures, the whole of it one time after the other."""
    check_room(amount, *pictures(image).shape)
    return image.repeat(amount, 1, 1, 1)


@node("ImageFromBatch", category="image/batch", module="comfy_extras.nodes_images")
def from_batch(
    *,
    image: Image,
    batch_index: Annotated[int, Int(0, 4095)] = 0,
    length: Annotated[int, Int(1, 4096)] = 1,
) -> Image:
    """Takes some pictures of a batch, counted from 0. Beyond the end the last one is taken."""
    counted(batch_index=batch_index, length=length)
    start = min(batch_index, len(pictures(image)) - 1)
    return image[start : start + length].clone()


@node(
    "RebatchImages",
    display_name="Rebatch Images",
    category="image/batch",
    module="comfy_extras.nodes_rebatch",
    schema_style=True,
    input_is_list=True,
    outputs=(OutputSpec(name="IMAGE", type="IMAGE", is_list=True),),
)
def rebatch_images(
    *,
    images: Annotated[list[Tensor], Socket("IMAGE")],
    batch_size: Annotated[list[int], Int(1, 4096, default=1)],
) -> list[Tensor]:
    """Makes batches of another number of pictures out of one or several batches; the last may have fewer."""
    singles = [item for number, batch in enumerate(images) for item in pictures(batch, f"images[{number}]")]
    size = batch_size[0]
    return [_stacked(singles[start : start + size]) for start in range(0, len(singles), size)]


def _stacked(singles: list[Tensor]) -> Tensor:
    shapes = {tuple(each.shape) for each in singles}
    if len(shapes) > 1:
        raise UnfitInput(f"pictures of different shapes cannot be one batch: {sorted(shapes)}; scale them first")
    return torch.stack(singles)
