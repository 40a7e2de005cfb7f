"""Latents: pictures in the small space where networks work, and what a family's space is like."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NotRequired, TypedDict

import torch
from torch import Tensor

from limner.diffusion.known import KnownLatents
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
class LatentFormat(KnownLatents):
    """A family's latent space. The network works on (latent - shift) * scale, or (latent - mean) * scale / std.

    stride: edge in pixels (or samples of sound) of one place. dimensions: 1 for sound, 2 for pictures, 3 for video.
    mean, std: by channel. rgb, rgb_bias: a linear guess at colours, -1..1. tiny: what the files of the small VAE that
    shows previews of this space are called, `taesd` in `taesd_decoder.safetensors`.
    """

    channels: int
    stride: int
    scale: float
    shift: float = 0.0
    dimensions: int = 2
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    rgb: tuple[tuple[float, float, float], ...] = ()
    rgb_bias: tuple[float, float, float] = (0.0, 0.0, 0.0)
    tiny: str = ""
    name: str = ""

    def into_network(self, samples: Tensor) -> Tensor:
        """Latents of the VAE, in the units that the network was trained on."""
        if self.mean:
            return (samples - self._by_channel(self.mean, samples)) * self.scale / self._by_channel(self.std, samples)
        return (samples - self.shift) * self.scale

    def out_of_network(self, x: Tensor) -> Tensor:
        """The inverse of `into_network`."""
        if self.mean:
            return x * self._by_channel(self.std, x) / self.scale + self._by_channel(self.mean, x)
        return x / self.scale + self.shift

    def fit(self, samples: Tensor) -> Tensor:
        """The samples with this format's number of channels: an empty latent is widened, another raises UnfitInput.

        Empty latents are made before the model is known, so their channels say nothing.
        """
        if samples.ndim == 4 and self.dimensions == 3 and samples.count_nonzero() == 0:
            samples = samples[:, :, None]
        if samples.ndim != self.dimensions + 2:
            wanted = AXES[self.dimensions]
            raise UnfitInput(
                f"a latent of this model has {len(wanted)} dimensions ({', '.join(wanted)}), not {samples.ndim}"
            )
        if samples.shape[1] == self.channels:
            return samples
        if samples.count_nonzero() == 0:
            return samples.new_zeros(samples.shape[0], self.channels, *samples.shape[2:])
        raise UnfitInput(f"the latent has {samples.shape[1]} channels, the model works on {self.channels}")

    def colours(self, x: Tensor) -> Tensor:
        """A rough picture of x, in the network's units: (B, C, [1 of its frames,] h, w) to (B, h, w, 3) uint8."""
        mix, bias = torch.tensor(self.rgb).to(x), torch.tensor(self.rgb_bias).to(x)
        places = x[:, :, 0] if x.ndim == 5 else x
        picture = torch.einsum("bchw,ck->bhwk", places, mix) + bias
        return ((picture + 1) / 2).clamp(0, 1).mul(255).to(torch.uint8)

    @staticmethod
    def _by_channel(values: tuple[float, ...], samples: Tensor) -> Tensor:
        return torch.tensor(values).to(samples).reshape(1, -1, *[1] * (samples.ndim - 2))


AXES = {
    1: ("batch", "channels", "length"),
    2: ("batch", "channels", "height", "width"),
    3: ("batch", "channels", "frames", "height", "width"),
}


def empty(width: int, height: int, count: int) -> Latent:
    """An empty latent for pictures of this size in pixels, in the shape most families use: 4 channels, 8 pixels."""
    return {"samples": torch.zeros(count, 4, height // 8, width // 8)}
