"""Nodes that change what colours pictures have."""

from __future__ import annotations

from typing import Annotated

import torch

from limner.errors import UnfitInput
from limner.graph.node import node
from limner.graph.types import Float, Int
from limner.nodes.fitting import coloured, pictures
from limner.nodes.sockets import Image

MORPHOLOGY = "comfy_extras.nodes_morphology"
LUMA = (0.299, 0.587, 0.114)
"""ITU-R BT.601: what red, green and blue add to the brightness."""

TO_BLUE, TO_RED = 0.564, 0.713
"""What differences to the brightness are multiplied with, to lie in -0.5..0.5."""


@node("ImageInvert", display_name="Invert Image", category="image")
def invert_image(*, image: Image) -> Image:
    """Turns every colour into its opposite."""
    return 1 - image


@node("ImageAddNoise", category="image", module="comfy_extras.nodes_images")
def add_noise(
    *,
    image: Image,
    seed: Annotated[int, Int(0, 2**64 - 1, control_after_generate=True)] = 0,
    strength: Annotated[float, Float(0, 1, step=0.01)] = 0.5,
) -> Image:
    """Adds grain to pictures. The same seed gives the same grain, on every machine."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(pictures(image).shape, generator=generator).to(image)
    return (image + strength * noise).clamp(0, 1)


@node(
    "ImageRGBToYUV",
    category="image/batch",
    module=MORPHOLOGY,
    schema_style=True,
    outputs={"Y": "IMAGE", "U": "IMAGE", "V": "IMAGE"},
)
def rgb_to_yuv(*, image: Image) -> tuple[Image, Image, Image]:
    """Takes pictures apart into brightness (Y) and two colour differences (U to blue, V to red), each as grey pictures.

    ITU-R BT.601, full range; colour differences are 0.5 where there is no colour.
    """
    red, green, blue = (channel[..., None] for channel in coloured(image)[..., :3].unbind(-1))
    brightness = LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue
    parts = (brightness, (blue - brightness) * TO_BLUE + 0.5, (red - brightness) * TO_RED + 0.5)
    y, u, v = (part.expand(*part.shape[:-1], 3) for part in parts)
    return y, u, v


@node("ImageYUVToRGB", category="image/batch", module=MORPHOLOGY, schema_style=True)
def yuv_to_rgb(*, Y: Image, U: Image, V: Image) -> Image:  # noqa: N803 - recorded names
    """Puts pictures together from their brightness (Y) and their colour differences (U and V). BT.601, full range."""
    brightness = _grey(Y, "Y", like=Y)
    blue, red = _grey(U, "U", like=Y) - 0.5, _grey(V, "V", like=Y) - 0.5
    parts = brightness + red / TO_RED, brightness + blue / TO_BLUE
    green = (brightness - LUMA[0] * parts[0] - LUMA[2] * parts[1]) / LUMA[1]
    return torch.stack((parts[0], green, parts[1]), dim=-1).clamp(0, 1)


def _grey(image: Image, name: str, *, like: Image) -> torch.Tensor:
    """The mean of a picture's channels. Raises UnfitInput where its size is another than Y's."""
    if pictures(image, name).shape[:3] != like.shape[:3]:
        raise UnfitInput(f"{name} has the shape {tuple(image.shape)}, Y {tuple(like.shape)}: the sizes must be equal")
    return image.mean(dim=-1)
