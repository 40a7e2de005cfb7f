"""Nodes that say what a network predicts and which noise levels it knows."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated

from limner.diffusion import denoiser, formats, levels
from limner.diffusion.levels import Levels
from limner.errors import UnfitInput
from limner.graph.node import node
from limner.graph.types import Choices, Flag, Float, Int
from limner.models import model as models
from limner.nodes.sockets import Model

MODULE = "comfy_extras.nodes_model_advanced"
CATEGORY = "advanced/model"

Shift = Annotated[float, Float(0, 100, step=0.01)]
SigmaEnd = Annotated[float, Float(0, 1000, step=0.001, round=False)]

Kind = Callable[[Levels], denoiser.Prediction]

DISCRETE: dict[str, Kind] = {
    "eps": denoiser.Epsilon,
    "v_prediction": denoiser.Velocity,
    "lcm": denoiser.Consistency,
    "x0": denoiser.Clean,
    "img_to_img": denoiser.Restored,
}
CONTINUOUS: dict[str, Kind] = {
    "v_prediction": denoiser.Velocity,
    "edm": denoiser.Edm,
    "edm_playground_v2.5": denoiser.Edm,
    "eps": denoiser.Epsilon,
    "cosmos_rflow": denoiser.CosmosFlow,
}


@node("ModelSamplingDiscrete", category=CATEGORY, module=MODULE)
def model_sampling_discrete(
    *, model: Model, sampling: Annotated[str, Choices(*DISCRETE)], zsnr: Annotated[bool, Flag()] = False
) -> Model:
    """Says what a Stable Diffusion network predicts. zsnr: it was trained down to no picture at all.

    lcm: a network distilled to few steps; it knows 50 of the 1000 levels.
    """
    table = levels.zero_terminal if zsnr else levels.scaled_linear
    known: Levels = table(0.00085, 0.012, steps=1000)
    if sampling == "lcm":
        known = levels.distilled(known)
    return _sampling(model, DISCRETE[sampling](known))


@node("ModelSamplingContinuousEDM", category=CATEGORY, module=MODULE)
def model_sampling_continuous_edm(
    *,
    model: Model,
    sampling: Annotated[str, Choices(*CONTINUOUS)],
    sigma_max: SigmaEnd = 120.0,
    sigma_min: SigmaEnd = 0.002,
) -> Model:
    """Says what a network predicts that knows any level between two, as EDM models do."""
    _check_range(sigma_min, sigma_max)
    between = levels.odds if sampling == "cosmos_rflow" else levels.log_uniform
    changed = _sampling(model, CONTINUOUS[sampling](between(sigma_min, sigma_max)))
    if sampling == "edm_playground_v2.5":
        changed.add_object_patch("latent_format", formats.PLAYGROUND_2_5)
    return changed


@node("ModelSamplingContinuousV", category=CATEGORY, module=MODULE)
def model_sampling_continuous_v(
    *,
    model: Model,
    sampling: Annotated[str, Choices("v_prediction")],  # noqa: ARG001 - the only choice
    sigma_max: SigmaEnd = 500.0,
    sigma_min: SigmaEnd = 0.03,
) -> Model:
    """Makes a model one that tells the velocity at any angle between picture and noise."""
    _check_range(sigma_min, sigma_max)
    return _sampling(model, denoiser.Velocity(levels.angles(sigma_min, sigma_max)))


@node("ModelSamplingStableCascade", category=CATEGORY, module=MODULE)
def model_sampling_stable_cascade(*, model: Model, shift: Shift = 2.0) -> Model:
    """Sets how much of the way a Stable Cascade model spends near the noise: the larger the picture, the more."""
    _check_shift(shift)
    return _sampling(model, denoiser.Epsilon(levels.cosine(shift)))


@node("ModelSamplingSD3", category=CATEGORY, module=MODULE)
def model_sampling_sd3(*, model: Model, shift: Shift = 3.0) -> Model:
    """Sets how much of the way a flow model (SD3, Wan, ...) spends near the noise: the larger, the more."""
    _check_shift(shift)
    return _sampling(model, denoiser.Flow(levels.straight(shift)))


@node("ModelSamplingAuraFlow", category=CATEGORY, module=MODULE)
def model_sampling_aura_flow(*, model: Model, shift: Shift = 1.73) -> Model:
    """Sets how much of the way a flow model (AuraFlow, Lumina, Z-Image, ...) spends near the noise."""
    _check_shift(shift)
    return _sampling(model, denoiser.Flow(levels.straight(shift, full=1.0)))


@node("ModelSamplingFlux", category=CATEGORY, module=MODULE)
def model_sampling_flux(
    *,
    model: Model,
    max_shift: Shift = 1.15,
    base_shift: Shift = 0.5,
    width: Annotated[int, Int(16, 16384, step=8)] = 1024,
    height: Annotated[int, Int(16, 16384, step=8)] = 1024,
) -> Model:
    """Sets how much of the way a Flux model spends near the noise, by the size of the picture.

    base_shift: for pictures of 256x256; max_shift: for 1024x1024. Between and beyond it follows the area.
    """
    few, many = 256, 4096
    tokens = width * height / (16 * 16)
    shift = base_shift + (max_shift - base_shift) * (tokens - few) / (many - few)
    return _sampling(model, denoiser.Flow(levels.exponential_shift(shift)))


def _sampling(model: models.Model, prediction: denoiser.Prediction) -> models.Model:
    changed = model.clone()
    changed.add_object_patch("model_sampling", prediction)
    return changed


def _check_range(low: float, high: float) -> None:
    if not 0 < low < high < math.inf:
        raise UnfitInput(f"sigma_min is {low} and sigma_max {high}; 0 < sigma_min < sigma_max is wanted")


def _check_shift(shift: float) -> None:
    if not 0 < shift < math.inf:
        raise UnfitInput(f"shift is {shift}; it must be above 0")
