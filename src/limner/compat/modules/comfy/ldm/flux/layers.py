"""Parts of Flux. Its blocks are Limner's own, which packs cannot put elsewhere."""

from __future__ import annotations

from torch import Tensor

from limner.compat.unoffered import no_class
from limner.diffusion.embedding import sinusoidal

DoubleStreamBlock = no_class("comfy.ldm.flux.layers", "DoubleStreamBlock")
SingleStreamBlock = no_class("comfy.ldm.flux.layers", "SingleStreamBlock")


def timestep_embedding(t: Tensor, dim: int, max_period: int = 10000, time_factor: float = 1000.0) -> Tensor:
    """Times 0..1 as waves, (N, dim)."""
    if max_period != 10000:
        raise ValueError(f"max_period is {max_period}; 10000 is known")
    return sinusoidal(t * time_factor, dim).to(t.dtype)
