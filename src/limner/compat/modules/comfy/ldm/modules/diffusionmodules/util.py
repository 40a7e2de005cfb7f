"""Small parts of UNets."""

from __future__ import annotations

from typing import TypeVar

from torch import Tensor, nn

from limner.diffusion.embedding import sinusoidal

M = TypeVar("M", bound=nn.Module)


def timestep_embedding(timesteps: Tensor, dim: int, max_period: int = 10000, repeat_only: bool = False) -> Tensor:
    """Times (N,) as waves, (N, dim); with repeat_only as they are, dim times."""
    if repeat_only:
        return timesteps[:, None].expand(-1, dim)
    if max_period != 10000:
        raise ValueError(f"max_period is {max_period}; 10000 is known")
    return sinusoidal(timesteps, dim)


def zero_module(module: M) -> M:
    """The module, all its weights 0."""
    for parameter in module.parameters():
        parameter.detach().zero_()
    return module
