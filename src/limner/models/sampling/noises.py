"""What NOISE sockets carry: where the noise of a walk's start comes from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from limner.diffusion import noise
from limner.errors import UnfitInput


class Noise(Protocol):
    """The names are those that node packs know. seed: also of what samplers add on their way."""

    seed: int

    def generate_noise(self, latent: Mapping[str, Any], /) -> Tensor:
        """Noise of the shape of a latent's samples, on the CPU."""


@dataclass(slots=True)
class RandomNoise:
    """Drawn from a seed; items of a batch by their `batch_index`, where there is one."""

    seed: int

    def generate_noise(self, latent: Mapping[str, Any], /) -> Tensor:
        samples: Tensor = latent["samples"]
        places = latent.get("batch_index")
        return noise.initial(self.seed, samples.cpu(), None if places is None else _checked(places, len(samples)))


@dataclass(slots=True)
class NoNoise:
    """None: the latent still has the noise of the level at which the walk begins."""

    seed: int = 0

    def generate_noise(self, latent: Mapping[str, Any], /) -> Tensor:
        samples: Tensor = latent["samples"]
        return torch.zeros(samples.shape, dtype=samples.dtype)


def _checked(places: Sequence[int], batch: int) -> list[int]:
    if len(places) != batch:
        raise UnfitInput(f"the latent's batch_index names {len(places)} draws of noise for a batch of {batch}")
    if min(places, default=0) < 0:
        raise UnfitInput(f"the latent's batch_index has {min(places)} in it; draws of noise are counted from 0")
    return [int(place) for place in places]
