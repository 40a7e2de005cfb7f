"""The node that brings pictures down to a few colours."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import torch
from PIL import Image as Pictures
from torch import Tensor

from limner.graph.node import node
from limner.graph.types import Choices, Int
from limner.nodes.fitting import coloured
from limner.nodes.sockets import Image

NONE, DIFFUSED = "none", "floyd-steinberg"
ORDERED = {"bayer-2": 1, "bayer-4": 2, "bayer-8": 3, "bayer-16": 4}
"""Ordered ditherings, and how often the 2x2 pattern is refined for each."""


@node("ImageQuantize", category="image/postprocessing", module="comfy_extras.nodes_post_processing", schema_style=True)
def quantize_image(
    *,
    image: Image,
    colors: Annotated[int, Int(1, 256, step=1)] = 256,
    dither: Annotated[str, Choices(NONE, DIFFUSED, *ORDERED)],
) -> Image:
    """Brings each picture down to so many colours of its own. Dithering hides the steps between them."""
    values = coloured(image)[..., :3].mul(255).nan_to_num(0).clamp(0, 255).to(torch.uint8).cpu().numpy()
    return torch.stack([_quantized(item, colors, dither) for item in values]).to(image)


def _quantized(values: np.ndarray, colors: int, dither: str) -> Tensor:
    """One picture (H, W, 3) uint8 in the colours of its median cut, as float32."""
    palette = Pictures.fromarray(values).quantize(colors=colors)
    if dither in ORDERED:
        values = _ordered(values, len(palette.getpalette() or ()) // 3, ORDERED[dither])
    picture = Pictures.fromarray(values).quantize(
        palette=palette, dither=Pictures.Dither.FLOYDSTEINBERG if dither == DIFFUSED else Pictures.Dither.NONE
    )
    return torch.from_numpy(np.array(picture.convert("RGB"), dtype=np.float32) / 255)


def _ordered(values: np.ndarray, colors: int, refinements: int) -> np.ndarray:
    """The picture under a repeated threshold pattern, about as strong as the steps between its colours are wide."""
    height, width, _ = values.shape
    pattern = 2 * 256 / max(1, colors) * bayer(refinements) + 0.5
    size = len(pattern)
    tiled = np.tile(pattern, (-(-height // size), -(-width // size)))[:height, :width, None]
    lifted: np.ndarray = np.clip(values + tiled, 0, 255).astype(np.uint8)
    return lifted


def bayer(refinements: int) -> np.ndarray:
    """The pattern of Bayer 1973, 2^n x 2^n thresholds between -0.5 and 0.5 with a mean of 0."""
    if not refinements:
        return np.zeros((1, 1))
    finer = bayer(refinements - 1)
    quarter = 4.0**-refinements
    top = np.hstack([finer - 1.5 * quarter, finer + 0.5 * quarter])
    bottom = np.hstack([finer + 1.5 * quarter, finer - 0.5 * quarter])
    return np.vstack([top, bottom])
