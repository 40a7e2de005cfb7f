"""Nodes that blur and sharpen pictures."""

from __future__ import annotations

from typing import Annotated

from limner.graph.node import node
from limner.graph.types import Float, Int
from limner.nodes.filters import blurred, sharpened
from limner.nodes.fitting import pictures
from limner.nodes.sockets import Image

MODULE = "comfy_extras.nodes_post_processing"


@node("ImageBlur", category="image/postprocessing", module=MODULE, schema_style=True)
def blur_image(
    *,
    image: Image,
    blur_radius: Annotated[int, Int(1, 31, step=1)] = 1,
    sigma: Annotated[float, Float(0.1, 10, step=0.1)] = 1.0,
) -> Image:
    """Blurs pictures. The radius is told in pixels; sigma, how flat the blur is, in units of the radius."""
    return blurred(pictures(image).movedim(-1, 1), blur_radius, sigma).movedim(1, -1)


@node("ImageSharpen", category="image/postprocessing", module=MODULE, schema_style=True)
def sharpen_image(
    *,
    image: Image,
    sharpen_radius: Annotated[int, Int(1, 31, step=1)] = 1,
    sigma: Annotated[float, Float(0.1, 10, step=0.01)] = 1.0,
    alpha: Annotated[float, Float(0, 5, step=0.01)] = 1.0,
) -> Image:
    """Sharpens pictures: details smaller than the radius in pixels come out stronger, by alpha."""
    return sharpened(pictures(image).movedim(-1, 1), sharpen_radius, sigma, alpha).movedim(1, -1).clamp(0, 1)
