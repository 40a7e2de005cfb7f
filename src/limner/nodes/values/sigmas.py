"""Nodes that make noise levels, and the empty latent of Flux.2 that goes with one of them."""

from __future__ import annotations

import math
import re
from typing import Annotated

import torch

from limner.errors import UnfitInput
from limner.graph.node import node
from limner.graph.types import Int, Text
from limner.nodes.memory import check_room
from limner.nodes.sockets import Latent, Sigmas

_NUMBER = re.compile(r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?")

FLUX2_CHANNELS, FLUX2_STRIDE = 128, 16
EDGE_OF_TOKEN = 16
"""Pixels on each edge that Flux.2 makes one token of."""


@node(
    "ManualSigmas",
    category="sampling/custom_sampling/sigmas",
    module="comfy_extras.nodes_custom_sampler",
    schema_style=True,
    experimental=True,
)
def manual_sigmas(*, sigmas: Annotated[str, Text()] = "1, 0.5") -> Sigmas:
    """Noise levels typed in: all numbers in a text, in their order."""
    levels = [float(each) for each in _NUMBER.findall(sigmas)]
    if not levels:
        raise UnfitInput(f"the text {sigmas!r:.100} holds no number, and so no noise level")
    tensor = torch.tensor(levels, dtype=torch.float32)
    if not tensor.isfinite().all():
        raise UnfitInput(f"the text {sigmas!r:.100} holds a number that is too large for a noise level")
    return tensor


@node(
    "EmptyFlux2LatentImage",
    display_name="Empty Flux 2 Latent",
    category="latent",
    module="comfy_extras.nodes_flux",
    schema_style=True,
)
def empty_flux2_latent(
    *,
    width: Annotated[int, Int(16, 16384, step=16)] = 1024,
    height: Annotated[int, Int(16, 16384, step=16)] = 1024,
    batch_size: Annotated[int, Int(1, 4096)] = 1,
) -> Latent:
    """An empty latent for Flux.2: the start of new pictures of this size in pixels."""
    shape = (batch_size, FLUX2_CHANNELS, height // FLUX2_STRIDE, width // FLUX2_STRIDE)
    check_room(*shape)
    return {"samples": torch.zeros(shape)}


@node(
    "Flux2Scheduler",
    category="sampling/custom_sampling/schedulers",
    module="comfy_extras.nodes_flux",
    schema_style=True,
)
def flux2_scheduler(
    *,
    steps: Annotated[int, Int(1, 4096)] = 20,
    width: Annotated[int, Int(16, 16384, step=1)] = 1024,
    height: Annotated[int, Int(16, 16384, step=1)] = 1024,
) -> Sigmas:
    """The noise levels of Flux.2 for a number of steps and a size in pixels: larger pictures stay noisy longer."""
    mu = flux2_mu(round(width * height / EDGE_OF_TOKEN**2), steps)
    times = torch.linspace(1, 0, steps + 1, dtype=torch.float64)
    levels = math.exp(mu) * times / (math.exp(mu) * times + (1 - times))
    return levels.float()


def flux2_mu(tokens: int, steps: int) -> float:
    """The logarithm of the shift that Flux.2 was tuned with, for a sequence of this many tokens.

    Two lines over the tokens, one for 10 steps and one for 200, and between them a line over the steps; above 4300
    tokens only the latter. After `compute_empirical_mu` of diffusers (Apache-2.0), itself after Black Forest Labs.
    """
    at_200 = 0.00016927 * tokens + 0.45666666
    if tokens > 4300:
        return at_200
    at_10 = 8.73809524e-05 * tokens + 1.89833333
    per_step = (at_200 - at_10) / 190
    return at_200 + per_step * (steps - 200)
