"""Latents: pictures in the small space where networks work, and what a family's space is like."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NotRequired, TypedDict

import torch
from torch import Tensor

from limner.errors import UnfitInput


class Latent(TypedDict):
    """What a LATENT socket carries.

    samples: (B, C, h, w) float32 in the units of the VAE. noise_mask: (1 or B, [1,] H, W), 1 where to paint.
    batch_index: which draw of noise each item gets.
    """

    samples: Tensor
    noise_mask: NotRequired[Tensor]
    batch_index: NotRequired[Sequence[int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentFormat:
    """A family's latent space. stride: edge in pixels of one place. rgb, rgb_bias: a linear guess at colours, -1..1."""

    channels: int
    stride: int
    scale: float
    rgb: tuple[tuple[float, float, float], ...] = ()
    rgb_bias: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def into_network(self, samples: Tensor) -> Tensor:
        """Latents of the VAE, in the units that the network was trained on."""
        return samples * self.scale

    def out_of_network(self, x: Tensor) -> Tensor:
        """The inverse of `into_network`."""
        return x / self.scale

    def fit(self, samples: Tensor) -> Tensor:
        """The samples with this format's number of channels: an empty latent is widened, another raises UnfitInput.

        Empty latents are made before the model is known, so their channels say nothing.
        """
        if samples.ndim != 4:
            raise UnfitInput(f"a latent has four dimensions (batch, channels, height, width), not {samples.ndim}")
        if samples.shape[1] == self.channels:
            return samples
        if samples.count_nonzero() == 0:
            batch, _, height, width = samples.shape
            return samples.new_zeros(batch, self.channels, height, width)
        raise UnfitInput(f"the latent has {samples.shape[1]} channels, the model works on {self.channels}")

    def colours(self, x: Tensor) -> Tensor:
        """A rough picture of x, in the network's units: (B, C, h, w) to (B, h, w, 3) uint8, one pixel a place."""
        mix, bias = torch.tensor(self.rgb).to(x), torch.tensor(self.rgb_bias).to(x)
        picture = torch.einsum("bchw,ck->bhwk", x, mix) + bias
        return ((picture + 1) / 2).clamp(0, 1).mul(255).to(torch.uint8)


def empty(width: int, height: int, count: int) -> Latent:
    """An empty latent for pictures of this size in pixels, in the shape most families use: 4 channels, 8 pixels."""
    return {"samples": torch.zeros(count, 4, height // 8, width // 8)}
