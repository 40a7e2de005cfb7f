"""Sampling with a model: what conditionings mean to it, how its answers are joined, and the walk as a whole."""

from limner.models.sampling.guidance import guided, joined
from limner.models.sampling.guiders import BasicGuider, CFGGuider, DualCFGGuider, PackSampler
from limner.models.sampling.noises import NoNoise, RandomNoise
from limner.models.sampling.sides import answers

__all__ = [
    "BasicGuider",
    "CFGGuider",
    "DualCFGGuider",
    "NoNoise",
    "PackSampler",
    "RandomNoise",
    "answers",
    "guided",
    "joined",
]
