"""What travels between the parts of sampling, as types for node functions."""

from __future__ import annotations

from typing import Annotated

from limner.diffusion import samplers
from limner.graph.types import Socket
from limner.models import sampling
from limner.models.sampling import noises

Sampler = Annotated[samplers.Sampler | sampling.PackSampler, Socket("SAMPLER")]
Guider = Annotated[sampling.CFGGuider, Socket("GUIDER")]
Noise = Annotated[noises.Noise, Socket("NOISE")]
