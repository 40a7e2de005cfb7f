"""Operations on latents as values, to be applied at once or at every step of a sampling."""

from __future__ import annotations

from typing import Annotated, Any

from torch import Tensor
from torch.linalg import vector_norm

from limner.graph.node import node
from limner.graph.types import Float, Int
from limner.nodes.filters import sharpened
from limner.nodes.fitting import samples_of
from limner.nodes.latent.placing import MODULE
from limner.nodes.sockets import Latent, LatentOperation, Model

CATEGORY = "latent/advanced/operations"
BRIGHT = 3
"""Lengths this many deviations above the mean count as the brightest, for tone mapping."""


@node("LatentApplyOperation", category=CATEGORY, module=MODULE, schema_style=True, experimental=True)
def apply_operation(*, samples: Latent, operation: LatentOperation) -> Latent:
    """Applies an operation to latents."""
    return {**samples, "samples": operation(latent=samples_of(samples))}


@node("LatentApplyOperationCFG", category=CATEGORY, module=MODULE, schema_style=True, experimental=True)
def apply_operation_in_guidance(*, model: Model, operation: LatentOperation) -> Model:
    """Applies an operation at every step to what the prompt changes: the difference to the negative prompt's answer."""

    def before_guidance(args: dict[str, Any]) -> list[Tensor]:
        answers: list[Tensor] = args["conds_out"]
        if len(answers) == 2:
            positive, negative = answers
            return [operation(latent=positive - negative) + negative, negative]
        return [operation(latent=answers[0]), *answers[1:]]

    changed = model.clone()
    changed.set_model_sampler_pre_cfg_function(before_guidance)
    return changed


@node("LatentOperationTonemapReinhard", category=CATEGORY, module=MODULE, schema_style=True, experimental=True)
def tonemap_operation(*, multiplier: Annotated[float, Float(0, 100, step=0.01)] = 1.0) -> LatentOperation:
    """An operation that tames the longest vectors of latents, so that a high cfg does not burn them out.

    Reinhard et al. 2002, "Photographic tone reproduction for digital images", equation 3, on the vectors' lengths.
    """

    def tonemap(latent: Tensor, **_: Any) -> Tensor:
        lengths = vector_norm(latent, dim=1, keepdim=True) + 1e-10
        rest = tuple(range(1, latent.ndim))
        mean, deviation = lengths.mean(dim=rest, keepdim=True), lengths.std(dim=rest, keepdim=True)
        top = (mean + BRIGHT * deviation) * multiplier
        mapped: Tensor = latent / lengths * (lengths / (lengths / top + 1))
        return mapped

    return tonemap


@node("LatentOperationSharpen", category=CATEGORY, module=MODULE, schema_style=True, experimental=True)
def sharpen_operation(
    *,
    sharpen_radius: Annotated[int, Int(1, 31, step=1)] = 9,
    sigma: Annotated[float, Float(0.1, 10, step=0.1)] = 1.0,
    alpha: Annotated[float, Float(0, 5, step=0.01)] = 0.1,
) -> LatentOperation:
    """An operation that sharpens latents: the directions of their vectors, not the lengths."""

    def sharpen(latent: Tensor, **_: Any) -> Tensor:
        lengths = vector_norm(latent, dim=1, keepdim=True) + 1e-6
        sharper: Tensor = lengths * sharpened(latent / lengths, sharpen_radius, sigma, alpha)
        return sharper

    return sharpen
