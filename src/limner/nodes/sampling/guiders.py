"""Nodes that give guiders."""

from __future__ import annotations

from typing import Annotated

from limner.graph.node import node
from limner.graph.types import Choices, Float
from limner.models import sampling
from limner.nodes.sampling.sockets import Guider
from limner.nodes.sockets import Conditioning, Model

MODULE = "comfy_extras.nodes_custom_sampler"
CATEGORY = "sampling/custom_sampling/guiders"

Scale = Annotated[float, Float(0, 100, step=0.1, round=0.01)]


@node("BasicGuider", category=CATEGORY, module=MODULE)
def basic_guider(*, model: Model, conditioning: Conditioning) -> Guider:
    """Follows one conditioning as the model does by itself."""
    guider = sampling.BasicGuider(model)
    guider.set_conds(conditioning)
    return guider


@node("CFGGuider", category=CATEGORY, module=MODULE)
def cfg_guider(*, model: Model, positive: Conditioning, negative: Conditioning, cfg: Scale = 8.0) -> Guider:
    """Goes `cfg` times as far from the negative as the positive is."""
    guider = sampling.CFGGuider(model)
    guider.set_conds(positive, negative)
    guider.set_cfg(cfg)
    return guider


@node("DualCFGGuider", category=CATEGORY, module=MODULE)
def dual_cfg_guider(
    *,
    model: Model,
    cond1: Conditioning,
    cond2: Conditioning,
    negative: Conditioning,
    cfg_conds: Scale = 8.0,
    cfg_cond2_negative: Scale = 8.0,
    style: Annotated[str, Choices("regular", "nested")],
) -> Guider:
    """Goes from the negative to cond2 by one scale, and from there to cond1 by another.

    Nested, the second scale is taken of where cond2 and cond1 lead together.
    """
    guider = sampling.DualCFGGuider(model)
    guider.set_conds(cond1, cond2, negative)
    guider.set_cfg(cfg_conds, cfg_cond2_negative, nested=style == "nested")
    return guider
