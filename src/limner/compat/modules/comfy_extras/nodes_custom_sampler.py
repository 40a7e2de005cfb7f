"""Nodes for sampling in parts, and the objects that they hand on."""

from __future__ import annotations

from limner.compat.core_classes import classes_of
from limner.models.sampling import CFGGuider
from limner.models.sampling.guiders import BasicGuider as GuiderOfOne
from limner.models.sampling.guiders import DualCFGGuider
from limner.models.sampling.noises import NoNoise, RandomNoise

Guider_Basic = GuiderOfOne
Guider_CFG = CFGGuider
Guider_DualCFG = DualCFGGuider
Noise_RandomNoise = RandomNoise


class Noise_EmptyNoise(NoNoise):  # noqa: N801 - ComfyUI's name
    """No noise, made without a word."""

    def __init__(self) -> None:
        super().__init__(0)


globals().update(classes_of("comfy_extras.nodes_custom_sampler"))
