"""The node that finds edges by Canny's method."""

from __future__ import annotations

import math
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor

from limner.errors import UnfitInput
from limner.graph.node import node
from limner.graph.types import Float
from limner.nodes.fitting import pictures
from limner.nodes.image.colours import LUMA
from limner.nodes.sockets import Image

TINY = 1e-6
SMOOTHING = tuple(math.exp(-(place**2) / 2) for place in (-2, -1, 0, 1, 2))
"""A Gaussian of sigma 1 over five pixels, before its sum is made 1."""

NEIGHBOURS = ((0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0), (-1, 1))
"""(rows down, columns right) of the pixel that lies in a direction of 0, 45, 90, ... degrees."""


@node("Canny", category="image/preprocessors", module="comfy_extras.nodes_canny", schema_style=True)
def canny_image(
    *,
    image: Image,
    low_threshold: Annotated[float, Float(0.01, 0.99, step=0.01)] = 0.4,
    high_threshold: Annotated[float, Float(0.01, 0.99, step=0.01)] = 0.8,
) -> Image:
    """Draws the edges of pictures, white on black, as ControlNets for edges want them.

    An edge as steep as high_threshold is drawn, and what hangs on it as long as it is as steep as low_threshold.
    """
    if low_threshold > high_threshold:
        raise UnfitInput(f"low_threshold is {low_threshold}, which is above high_threshold, {high_threshold}")
    edges = canny(_grey(pictures(image)), low_threshold, high_threshold)
    return edges[..., None].expand(*edges.shape, 3)


def canny(grey: Tensor, low: float, high: float) -> Tensor:
    """Edges (B, H, W), 1 or 0, of grey pictures (B, H, W).

    Canny 1986, "A computational approach to edge detection": Gaussian smoothing over 5 x 5 pixels, Sobel's gradients,
    thinning to the crest of each edge in the nearest of eight directions, and hysteresis between two thresholds.
    """
    right, down = _gradients(_smoothed(grey))
    steepness = (right**2 + down**2 + TINY).sqrt()
    steepness = steepness * _is_crest(steepness, torch.atan2(down, right))
    weak, strong = steepness > low, steepness > high
    return _connected(strong, weak).to(grey.dtype)


def _grey(image: Tensor) -> Tensor:
    if image.shape[-1] < len(LUMA):
        return image[..., 0]
    return (image[..., :3] * torch.tensor(LUMA).to(image)).sum(dim=-1)


def _smoothed(grey: Tensor) -> Tensor:
    weights = torch.tensor(SMOOTHING).to(grey)
    weights = weights / weights.sum()
    padded = _mirrored(_mirrored(grey, -1), -2)[:, None]
    return F.conv2d(F.conv2d(padded, weights[None, None, None]), weights[None, None, :, None])[:, 0]


def _mirrored(grey: Tensor, direction: int) -> Tensor:
    """Two more pixels at both ends, mirrored; where there are too few, the last one again."""
    size = grey.shape[direction]
    places = torch.arange(-2, size + 2, device=grey.device).abs()
    places = torch.where(places >= size, 2 * (size - 1) - places, places)
    return grey.index_select(direction, places.clamp(0, size - 1))


def _gradients(grey: Tensor) -> tuple[Tensor, Tensor]:
    """Sobel's differences to the right and downwards, the edge repeated; not divided by 8."""
    sobel = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]).to(grey)
    padded = F.pad(grey[:, None], (1, 1, 1, 1), mode="replicate")
    right, down = F.conv2d(padded, torch.stack([sobel, sobel.T])[:, None]).unbind(dim=1)
    return right, down


def _is_crest(steepness: Tensor, angle: Tensor) -> Tensor:
    """Where a pixel is steeper than both its neighbours up and down the slope. Beyond the picture all is flat."""
    sector = torch.round(angle / (math.pi / 4)).long().remainder(8)
    height, width = steepness.shape[-2:]
    padded = F.pad(steepness, (1, 1, 1, 1))
    around = torch.stack(
        [padded[:, 1 + down : 1 + down + height, 1 + right : 1 + right + width] for down, right in NEIGHBOURS]
    )
    ahead = around.gather(0, sector[None])[0]
    behind = around.gather(0, (sector[None] + 4) % 8)[0]
    return (steepness > ahead) & (steepness > behind)


def _connected(strong: Tensor, weak: Tensor) -> Tensor:
    """Strong pixels, and the weak ones that a chain of weak ones joins to them, diagonals included."""
    found, left = F.pad(strong, (1, 1, 1, 1)), F.pad(weak & ~strong, (1, 1, 1, 1))
    row = found.shape[-1]
    steps = torch.tensor([down * row + right for down, right in NEIGHBOURS], device=found.device)
    known, open_ = found.view(-1), left.view(-1)
    border = known.nonzero()[:, 0]
    while len(border):
        near = (border[:, None] + steps).flatten()
        border = torch.unique(near[open_[near]])
        open_[border] = False
        known[border] = True
    return found[:, 1:-1, 1:-1]
