"""The names under which node packs know a VAE, all told with what `Vae` has."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from limner.models.patcher import Patcher

VALUES_PER_PIXEL = 2200
"""How many values the network holds at once for a pixel, roughly."""


class KnownVae:
    """What packs ask of a VAE."""

    latents: Any
    patcher: Patcher
    channels: int

    @property
    def latent_channels(self) -> int:
        return int(self.latents.channels)

    @property
    def latent_dim(self) -> int:
        return int(self.latents.dimensions)

    @property
    def output_channels(self) -> int:
        return self.channels

    @property
    def downscale_ratio(self) -> int:
        """Pixels of an edge for each place of a latent."""
        return int(self.latents.stride)

    @property
    def upscale_ratio(self) -> int:
        return int(self.latents.stride)

    @property
    def downscale_index_formula(self) -> None:
        """None: frames are counted as pixels are."""
        return

    @property
    def upscale_index_formula(self) -> None:
        return

    @property
    def output_device(self) -> torch.device:
        return torch.device("cpu")

    @property
    def vae_dtype(self) -> torch.dtype | None:
        return self.patcher.dtype

    @property
    def working_dtypes(self) -> list[torch.dtype]:
        return [self.vae_dtype or torch.float32]

    @property
    def process_input(self) -> Callable[[Tensor], Tensor]:
        """Pictures in 0..1 as the network takes them."""
        return lambda image: image * 2.0 - 1.0

    @property
    def process_output(self) -> Callable[[Tensor], Tensor]:
        return lambda image: ((image + 1.0) / 2.0).clamp(0.0, 1.0)

    def throw_exception_if_invalid(self) -> None:
        """A VAE that is none is refused when it is loaded."""

    def vae_encode_crop_pixels(self, pixels: Tensor) -> Tensor:
        """Pictures (B, H, W, C) cut in their middle to whole places of a latent."""
        height, width = (edge // self.downscale_ratio * self.downscale_ratio for edge in pixels.shape[1:3])
        top, left = (pixels.shape[1] - height) // 2, (pixels.shape[2] - width) // 2
        return pixels[:, top : top + height, left : left + width]

    def spacial_compression_decode(self) -> int:
        return self.upscale_ratio

    def spacial_compression_encode(self) -> int:
        return self.downscale_ratio

    def temporal_compression_decode(self) -> None:
        """None: it knows no frames."""

    def memory_used_decode(self, shape: Sequence[int], dtype: torch.dtype) -> float:
        """Bytes that decoding a latent of this shape takes beside the weights, roughly."""
        return float(VALUES_PER_PIXEL * shape[-2] * shape[-1] * self.upscale_ratio**2 * dtype.itemsize)

    def memory_used_encode(self, shape: Sequence[int], dtype: torch.dtype) -> float:
        return float(VALUES_PER_PIXEL * shape[-2] * shape[-1] * dtype.itemsize)

    def get_sd(self) -> dict[str, Tensor]:
        """The weights by their keys, as they were loaded."""
        return self.patcher.model_state_dict()
