"""Nodes that change how the answers to both conditionings are joined."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any

import torch
from torch import Tensor

from limner.errors import UnfitInput
from limner.graph.node import node
from limner.graph.types import Float, Socket, Text
from limner.models.model import copied_options
from limner.models.sampling import answers
from limner.nodes.sockets import Model


@node("RescaleCFG", category="advanced/model", module="comfy_extras.nodes_model_advanced")
def rescale_cfg(*, model: Model, multiplier: Annotated[float, Float(0, 1, step=0.01)] = 0.7) -> Model:
    """Keeps strong guidance from overexposing, in models that tell the velocity. multiplier: how much of it.

    The guided answer gets the spread of the positive one. Lin et al. 2023, arXiv:2305.08891, section 3.4.
    """

    def join(told: dict[str, Any]) -> Tensor:
        x: Tensor = told["input"]
        sigma = told["sigma"].reshape(-1, *[1] * (x.ndim - 1))
        total = sigma**2 + 1
        middle = x / total
        positive, negative = (
            (middle - told[side]) * total.sqrt() / sigma for side in ("cond_denoised", "uncond_denoised")
        )
        guided = negative + told["cond_scale"] * (positive - negative)
        edges = tuple(range(1, x.ndim))
        rescaled = guided * positive.std(dim=edges, keepdim=True) / guided.std(dim=edges, keepdim=True)
        velocity = multiplier * rescaled + (1 - multiplier) * guided
        removed: Tensor = x - (middle - velocity * sigma / total.sqrt())
        return removed

    changed = model.clone()
    changed.set_model_sampler_cfg_function(join)
    return changed


@node(
    "SkipLayerGuidanceSD3",
    category="advanced/guidance",
    module="comfy_extras.nodes_sd3",
    schema_style=True,
    experimental=True,
)
def skip_layer_guidance(
    *,
    model: Annotated[Model, Socket("MODEL", {})],
    layers: Annotated[str, Text()] = "7, 8, 9",
    scale: Annotated[float, Float(0, 10, step=0.1)] = 3.0,
    start_percent: Annotated[float, Float(0, 1, step=0.001)] = 0.01,
    end_percent: Annotated[float, Float(0, 1, step=0.001)] = 0.15,
) -> Model:
    """Leads away from what a transformer answers without some of its layers, during a part of the way.

    layers: their numbers, such as "7, 8, 9". For SD3.5 Medium. Hyung et al. 2024, arXiv:2411.18664.
    """
    numbers = [int(number) for number in re.findall(r"\d+", layers)]
    if not numbers or scale == 0:
        return model
    if not math.isfinite(scale):
        raise UnfitInput(f"scale is {scale}; it must be a number")
    known = model.model_sampling.levels
    highest, lowest = known.at(start_percent), known.at(end_percent)

    def lead_away(told: dict[str, Any]) -> Tensor:
        clean: Tensor = told["denoised"]
        if not lowest <= float(told["sigma"][0]) <= highest:
            return clean
        options = copied_options(told["model_options"])
        replaced = options.setdefault("transformer_options", {}).setdefault("patches_replace", {})
        replaced["dit"] = {**replaced.get("dit", {}), **{("double_block", number): _skip for number in numbers}}
        (without,) = answers(told["model"], [told["cond"]], told["input"], told["sigma"], options)
        led: Tensor = clean + (told["cond_denoised"] - without) * scale
        return led

    changed = model.clone()
    changed.set_model_sampler_post_cfg_function(lead_away)
    return changed


def _skip(given: dict[str, Any], _extra: dict[str, Any]) -> dict[str, Any]:
    """A block that leaves everything as it is."""
    return given


@node(
    "DifferentialDiffusion",
    display_name="Differential Diffusion",
    category="_for_testing",
    module="comfy_extras.nodes_differential_diffusion",
    schema_style=True,
    experimental=True,
)
def differential_diffusion(
    *,
    model: Annotated[Model, Socket("MODEL", {})],
    strength: Annotated[float, Float(0, 1, step=0.01, optional=True)] = 1.0,
) -> Model:
    """Lets a grey mask say how much each place may change: the lighter it is, the earlier its painting begins.

    strength: below 1 the mask itself counts too. Levin and Fried 2023, arXiv:2306.00950.
    """

    def at(sigma: Tensor, mask: Tensor, extra_options: dict[str, Any]) -> Tensor:
        known, walked = extra_options["model"].inner_model.model_sampling.levels, extra_options["sigmas"]
        last = walked[-1].clamp(min=known.low)
        begin, end, now = (known.timestep(level).float() for level in (walked[0], last, sigma[0]))
        binary = (mask >= (now - end) / (begin - end)).to(mask.dtype)
        return torch.lerp(mask, binary, strength)

    changed = model.clone()
    changed.set_model_denoise_mask_function(at)
    return changed
