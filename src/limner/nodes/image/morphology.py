"""The node that grows and shrinks bright areas of pictures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from torch import Tensor

from limner.errors import UnfitInput
from limner.graph.node import node
from limner.graph.types import Choices, Int
from limner.nodes.fitting import pictures
from limner.nodes.growth import dilated, eroded
from limner.nodes.sockets import Image


def opened(planes: Tensor, size: int) -> Tensor:
    """Bright spots smaller than the square are gone."""
    return dilated(eroded(planes, size), size)


def closed(planes: Tensor, size: int) -> Tensor:
    """Dark spots smaller than the square are gone."""
    return eroded(dilated(planes, size), size)


OPERATIONS: dict[str, Callable[[Tensor, int], Tensor]] = {
    "erode": eroded,
    "dilate": dilated,
    "open": opened,
    "close": closed,
    "gradient": lambda planes, size: dilated(planes, size) - eroded(planes, size),
    "bottom_hat": lambda planes, size: closed(planes, size) - planes,
    "top_hat": lambda planes, size: planes - opened(planes, size),
}


@node(
    "Morphology",
    display_name="ImageMorphology",
    category="image/postprocessing",
    module="comfy_extras.nodes_morphology",
    schema_style=True,
)
def morphology(
    *,
    image: Image,
    operation: Annotated[str, Choices(*OPERATIONS)],
    kernel_size: Annotated[int, Int(3, 999, step=1)] = 3,
) -> Image:
    """Shrinks (erode) or grows (dilate) what is bright, by a square of so many pixels, or combines the two.

    open and close remove small bright or dark spots, top_hat and bottom_hat keep only those, gradient gives outlines.
    """
    if kernel_size < 1:
        raise UnfitInput(f"kernel_size is {kernel_size}; the square has an edge of a pixel at the least")
    return OPERATIONS[operation](pictures(image).movedim(-1, 1), kernel_size).movedim(1, -1)
