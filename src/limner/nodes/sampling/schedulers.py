"""Nodes that make schedules."""

from __future__ import annotations

from typing import Annotated, Any

from limner.diffusion import ranges
from limner.diffusion.schedules import SCHEDULES
from limner.errors import UnfitInput
from limner.graph.node import node
from limner.graph.types import Choices, Float, Int
from limner.nodes.sampling.walking import schedule
from limner.nodes.sockets import Model, Sigmas

MODULE = "comfy_extras.nodes_custom_sampler"
CATEGORY = "sampling/custom_sampling/schedulers"

Steps = Annotated[int, Int(1, 10000)]
SigmaEnd = Annotated[float, Float(0, 5000, step=0.01, round=False)]
Rho = Annotated[float, Float(0, 100, step=0.01, round=False)]
Shape = Annotated[float, Float(0, 50, step=0.01, round=False)]


@node("BasicScheduler", category=CATEGORY, module=MODULE)
def basic_scheduler(
    *,
    model: Model,
    scheduler: Annotated[str, Choices(*SCHEDULES)],
    steps: Steps = 20,
    denoise: Annotated[float, Float(0, 1, step=0.01)] = 1.0,
) -> Sigmas:
    """A schedule over a model's own levels. denoise: below 1 only the last part of a longer one."""
    return schedule(model, scheduler, steps, denoise=denoise)


@node("KarrasScheduler", category=CATEGORY, module=MODULE)
def karras_scheduler(
    *, steps: Steps = 20, sigma_max: SigmaEnd = 14.614642, sigma_min: SigmaEnd = 0.0291675, rho: Rho = 7.0
) -> Sigmas:
    """A schedule that is even in sigma to the power of 1/rho: the larger rho, the more steps at low levels."""
    _above_zero(rho=rho)
    return ranges.karras(steps, sigma_min, sigma_max, rho)


@node("ExponentialScheduler", category=CATEGORY, module=MODULE)
def exponential_scheduler(
    *, steps: Steps = 20, sigma_max: SigmaEnd = 14.614642, sigma_min: SigmaEnd = 0.0291675
) -> Sigmas:
    """A schedule that is even in the logarithm of sigma."""
    _above_zero(sigma_max=sigma_max, sigma_min=sigma_min)
    return ranges.exponential(steps, sigma_min, sigma_max)


@node("PolyexponentialScheduler", category=CATEGORY, module=MODULE)
def polyexponential_scheduler(
    *, steps: Steps = 20, sigma_max: SigmaEnd = 14.614642, sigma_min: SigmaEnd = 0.0291675, rho: Rho = 1.0
) -> Sigmas:
    """A schedule by a polynomial in the logarithm of sigma; rho 1 is the exponential one."""
    _above_zero(sigma_max=sigma_max, sigma_min=sigma_min)
    return ranges.polyexponential(steps, sigma_min, sigma_max, rho)


@node("LaplaceScheduler", category=CATEGORY, module=MODULE)
def laplace_scheduler(
    *,
    steps: Steps = 20,
    sigma_max: SigmaEnd = 14.614642,
    sigma_min: SigmaEnd = 0.0291675,
    mu: Annotated[float, Float(-10, 10, step=0.1, round=False)] = 0.0,
    beta: Annotated[float, Float(0, 10, step=0.1, round=False)] = 0.5,
) -> Sigmas:
    """A schedule that is dense about the level e^mu, by a Laplace distribution of the width beta; it ends above 0."""
    if sigma_min > sigma_max:
        raise UnfitInput(f"sigma_min is {sigma_min}, which is above sigma_max, {sigma_max}")
    return ranges.laplace(steps, sigma_min, sigma_max, mu, beta)


@node("VPScheduler", category=CATEGORY, module=MODULE)
def vp_scheduler(
    *,
    steps: Steps = 20,
    beta_d: Annotated[float, Float(0, 5000, step=0.01, round=False)] = 19.9,
    beta_min: Annotated[float, Float(0, 5000, step=0.01, round=False)] = 0.1,
    eps_s: Annotated[float, Float(0, 1, step=0.0001, round=False)] = 0.001,
) -> Sigmas:
    """A schedule at even times of a diffusion that keeps the variance, whose beta rises by beta_d from beta_min."""
    return ranges.variance_preserving(steps, beta_d, beta_min, eps_s)


@node("BetaSamplingScheduler", category=CATEGORY, module=MODULE)
def beta_scheduler(*, model: Model, steps: Steps = 20, alpha: Shape = 0.6, beta: Shape = 0.6) -> Sigmas:
    """A schedule over a model's own levels, spread as a beta distribution: with small shapes dense at both ends."""
    _above_zero(alpha=alpha, beta=beta)
    return ranges.beta(model.model_sampling.levels, steps, alpha, beta)


@node("SDTurboScheduler", category=CATEGORY, module=MODULE)
def turbo_scheduler(
    *,
    model: Model,
    steps: Annotated[int, Int(1, 10)] = 1,
    denoise: Annotated[float, Float(0, 1, step=0.01)] = 1.0,
) -> Sigmas:
    """The schedule of turbo models: up to ten steps, the first `steps` of them walked."""
    return ranges.turbo(model.model_sampling.levels, steps, denoise)


def _above_zero(**values: Any) -> None:
    for name, value in values.items():
        if not value > 0:
            raise UnfitInput(f"{name} is {value}; it must be above 0")
