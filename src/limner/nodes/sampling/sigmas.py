"""Nodes that cut and change schedules."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from torch import Tensor

from limner.errors import UnfitInput
from limner.graph.node import node
from limner.graph.types import Choices, Flag, Float, Int, Socket
from limner.nodes.sockets import Model, Sigmas

MODULE = "comfy_extras.nodes_custom_sampler"
CATEGORY = "sampling/custom_sampling/sigmas"
HALVES = {"high_sigmas": "SIGMAS", "low_sigmas": "SIGMAS"}

ALMOST_NONE = 0.0001
"""Where a flipped schedule begins: samplers divide by their level."""

SPACINGS = {
    "linear": lambda part: part,
    "cosine": lambda part: (part * math.pi / 2).sin(),
    "sine": lambda part: 1 - (part * math.pi / 2).cos(),
}


@node("SplitSigmas", category=CATEGORY, module=MODULE, outputs=HALVES)
def split_sigmas(*, sigmas: Sigmas, step: Annotated[int, Int(0, 10000)] = 0) -> tuple[Tensor, Tensor]:
    """Cuts a schedule in two at a step. Both have its level: where one walk ends, the other begins."""
    return sigmas[: step + 1], sigmas[step:]


@node("SplitSigmasDenoise", category=CATEGORY, module=MODULE, outputs=HALVES)
def split_sigmas_by_part(
    *, sigmas: Sigmas, denoise: Annotated[float, Float(0, 1, step=0.01)] = 1.0
) -> tuple[Tensor, Tensor]:
    """Cuts a schedule in two so that the second has this part of its steps."""
    last = max(len(sigmas) - 1, 0)
    first = last - round(last * denoise)
    return sigmas[: first + 1], sigmas[first:]


@node("FlipSigmas", category=CATEGORY, module=MODULE)
def flip_sigmas(*, sigmas: Sigmas) -> Sigmas:
    """Turns a schedule around, so that a walk leads from a picture to noise."""
    flipped = sigmas.flip(0)
    if len(flipped) > 0 and flipped[0] == 0:
        flipped[0] = ALMOST_NONE
    return flipped


@node("SetFirstSigma", category=CATEGORY, module=MODULE)
def set_first_sigma(
    *, sigmas: Sigmas, sigma: Annotated[float, Float(0, 20000, step=0.001, round=False)] = 136.0
) -> Sigmas:
    """Replaces the level at which a schedule begins."""
    if len(sigmas) == 0:
        raise UnfitInput("the schedule is empty: there is no first sigma to set")
    changed = sigmas.clone()
    changed[0] = sigma
    return changed


@node("ExtendIntermediateSigmas", category=CATEGORY, module=MODULE)
def extend_intermediate_sigmas(
    *,
    sigmas: Sigmas,
    steps: Annotated[int, Int(1, 100)] = 2,
    start_at_sigma: Annotated[float, Float(-1, 20000, step=0.01, round=False)] = -1.0,
    end_at_sigma: Annotated[float, Float(0, 20000, step=0.01, round=False)] = 12.0,
    spacing: Annotated[str, Choices(*SPACINGS)],
) -> Sigmas:
    """Makes each step that begins within a range of levels into several. A start below 0 stands for no upper limit."""
    parts = SPACINGS[spacing](torch.linspace(0, 1, steps + 1)[1:-1])
    highest = math.inf if start_at_sigma < 0 else start_at_sigma
    levels: list[Tensor] = []
    for place, now in enumerate(sigmas[:-1]):
        levels.append(now.reshape(1))
        if end_at_sigma <= now <= highest:
            levels.append(now + parts * (sigmas[place + 1] - now))
    return torch.cat([*levels, sigmas[-1:]])


@node("SamplingPercentToSigma", category=CATEGORY, module=MODULE, outputs={"sigma_value": "FLOAT"})
def sampling_percent_to_sigma(
    *,
    model: Annotated[Model, Socket("MODEL", {})],
    sampling_percent: Annotated[float, Float(0, 1, step=0.0001)] = 0.0,
    return_actual_sigma: Annotated[bool, Flag()] = False,
) -> float:
    """The noise level of a model after a part of the way down: at 0 beyond any level, at 1 none.

    return_actual_sigma: at 0 and 1 the model's own highest and lowest level instead.
    """
    levels = model.model_sampling.levels
    if return_actual_sigma and sampling_percent in (0, 1):
        return levels.low if sampling_percent else levels.high
    return levels.at(sampling_percent)
