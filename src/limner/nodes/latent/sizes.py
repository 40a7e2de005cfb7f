"""Nodes that change the size of latents."""

from __future__ import annotations

from typing import Annotated

from torch import Tensor

from limner.graph.node import node
from limner.graph.types import Choices, Float, Int
from limner.nodes.fitting import planes_of
from limner.nodes.latent.places import LEAST, PIXELS
from limner.nodes.memory import check_room
from limner.nodes.scaling import CROPS, LATENT_METHODS, scale_planes
from limner.nodes.sockets import Latent


@node("LatentUpscale", display_name="Upscale Latent", category="latent")
def upscale_latent(
    *,
    samples: Latent,
    upscale_method: Annotated[str, Choices(*LATENT_METHODS)],
    width: Annotated[int, Int(0, 16384, step=8)] = 512,
    height: Annotated[int, Int(0, 16384, step=8)] = 512,
    crop: Annotated[str, Choices(*CROPS)],
) -> Latent:
    """Brings latents to a size in pixels, 64 at the least. An edge of 0 keeps the proportions, two keep all."""
    tensor = planes_of(samples)
    if not width and not height:
        return samples
    now_height, now_width = tensor.shape[-2:]
    if not width:
        height = max(LEAST, height)
        width = round(now_width * height / now_height)
    elif not height:
        width = max(LEAST, width)
        height = round(now_height * width / now_width)
    width, height = max(LEAST, width) // PIXELS, max(LEAST, height) // PIXELS
    return {**samples, "samples": _scaled(tensor, width, height, upscale_method, crop)}


@node("LatentUpscaleBy", display_name="Upscale Latent By", category="latent")
def upscale_latent_by(
    *,
    samples: Latent,
    upscale_method: Annotated[str, Choices(*LATENT_METHODS)],
    scale_by: Annotated[float, Float(0.01, 8, step=0.01)] = 1.5,
) -> Latent:
    """Makes latents larger or smaller by a factor."""
    tensor = planes_of(samples)
    height, width = (max(1, round(edge * scale_by)) for edge in tensor.shape[-2:])
    return {**samples, "samples": _scaled(tensor, width, height, upscale_method, "disabled")}


def _scaled(tensor: Tensor, width: int, height: int, method: str, crop: str) -> Tensor:
    check_room(*tensor.shape[:-2], height, width)
    return scale_planes(tensor, width, height, method, crop)
