"""Nodes that mix the weights of two models, or of two text encoders."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from limner.engine.context import RunContext
from limner.graph.node import node
from limner.graph.types import Float
from limner.models import merging
from limner.models.merging import Ratio
from limner.nodes.sockets import Clip, Model

CATEGORY = "advanced/model_merging"
MODULE = "comfy_extras.nodes_model_merging"

Share = Annotated[float, Float(0, 1, step=0.01)]
Multiplier = Annotated[float, Float(-10, 10, step=0.01)]


@node("ModelMergeSimple", category=CATEGORY, module=MODULE)
def merge_models(ctx: RunContext, *, model1: Model, model2: Model, ratio: Share = 1.0) -> Model:
    """Mixes two models. At 1 it is the first, at 0 the second."""
    return _merged(ctx, model1, model2, lambda _: (1 - ratio, ratio))


@node("ModelMergeSubtract", category=CATEGORY, module=MODULE)
def subtract_models(ctx: RunContext, *, model1: Model, model2: Model, multiplier: Multiplier = 1.0) -> Model:
    """What the first model has beyond the second, times the multiplier; to be added to a third."""
    return _merged(ctx, model1, model2, lambda _: (-multiplier, multiplier))


@node("ModelMergeAdd", category=CATEGORY, module=MODULE)
def add_models(ctx: RunContext, *, model1: Model, model2: Model) -> Model:
    """Adds the second model's weights, such as a difference, to the first's."""
    return _merged(ctx, model1, model2, lambda _: (1.0, 1.0))


@node("ModelMergeBlocks", category=CATEGORY, module=MODULE)
def merge_blocks(
    ctx: RunContext,
    *,
    model1: Model,
    model2: Model,
    input: Share = 1.0,
    middle: Share = 1.0,
    out: Share = 1.0,
) -> Model:
    """Mixes two models, the parts of the network by other shares. At 1 a part is the first's, at 0 the second's.

    What belongs to none of the three goes with the input.
    """
    shares = {"input": input, "middle": middle, "out": out}

    def ratio(key: str) -> Ratio:
        name = key.removeprefix("diffusion_model.")
        share = next((share for part, share in shares.items() if name.startswith(part)), input)
        return 1 - share, share

    return _merged(ctx, model1, model2, ratio)


@node("CLIPMergeSimple", category=CATEGORY, module=MODULE)
def merge_encoders(ctx: RunContext, *, clip1: Clip, clip2: Clip, ratio: Share = 1.0) -> Clip:
    """Mixes two text encoders. At 1 it is the first, at 0 the second."""
    return _merged_encoders(ctx, clip1, clip2, lambda _: (1 - ratio, ratio))


@node("CLIPMergeSubtract", category=CATEGORY, module=MODULE)
def subtract_encoders(ctx: RunContext, *, clip1: Clip, clip2: Clip, multiplier: Multiplier = 1.0) -> Clip:
    """What the first text encoder has beyond the second, times the multiplier; to be added to a third."""
    return _merged_encoders(ctx, clip1, clip2, lambda _: (-multiplier, multiplier))


@node("CLIPMergeAdd", category=CATEGORY, module=MODULE)
def add_encoders(ctx: RunContext, *, clip1: Clip, clip2: Clip) -> Clip:
    """Adds the second text encoder's weights, such as a difference, to the first's."""
    return _merged_encoders(ctx, clip1, clip2, lambda _: (1.0, 1.0))


def _merged(ctx: RunContext, model1: Model, model2: Model, ratio: Callable[[str], Ratio]) -> Model:
    merged = model1.clone()
    merging.merge(merged, model2.clone(), ratio, names=(model1.name, model2.name), warn=ctx.warn)
    return merged


def _merged_encoders(ctx: RunContext, clip1: Clip, clip2: Clip, ratio: Callable[[str], Ratio]) -> Clip:
    merged = clip1.clone()
    names = (f"the text encoders of {clip1.family.title}", f"those of {clip2.family.title}")
    merging.merge(merged, clip2.clone(), ratio, names=names, warn=ctx.warn)
    return merged
