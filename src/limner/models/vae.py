"""Vae: pictures into latents and back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from limner.diffusion.latents import LatentFormat
from limner.errors import UnfitInput

PIXELS_AT_ONCE = 512 * 512
"""A batch goes through the network in parts of about this many pixels, so that a large one needs no more memory."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Vae:
    """What a VAE socket carries."""

    network: nn.Module
    latents: LatentFormat
    device: torch.device
    dtype: torch.dtype

    def decode(self, samples: Tensor) -> Tensor:
        """Latents (B, C, h, w) into pictures (B, H, W, 3), float32 in 0..1 on the CPU. Raises UnfitInput."""
        if samples.ndim != 4 or samples.shape[1] != self.latents.channels:
            raise UnfitInput(
                f"the latent has the shape {tuple(samples.shape)}, this VAE decodes (batch, {self.latents.channels}, "
                "height, width)"
            )
        with torch.inference_mode():
            parts = [self._decode(part) for part in self._parts(samples, self.latents.stride)]
            return torch.cat(parts)

    def encode(self, pixels: Tensor) -> Tensor:
        """Pictures (B, H, W, 3 or more) in 0..1 into latents (B, C, H // stride, W // stride), float32 on the CPU.

        What does not fill a whole place is cut off on both sides alike. Raises UnfitInput for too small pictures.
        """
        stride = self.latents.stride
        height, width = (edge // stride * stride for edge in pixels.shape[1:3])
        if not height or not width or pixels.shape[-1] < 3:
            raise UnfitInput(
                f"a picture of {pixels.shape[2]}x{pixels.shape[1]} with {pixels.shape[-1]} channels cannot be encoded: "
                f"{stride}x{stride} with 3 is the least"
            )
        top, left = (pixels.shape[1] - height) // 2, (pixels.shape[2] - width) // 2
        cut = pixels[:, top : top + height, left : left + width, :3].movedim(-1, 1)
        with torch.inference_mode():
            return torch.cat([self._encode(part) for part in self._parts(cut, 1)])

    def _decode(self, samples: Tensor) -> Tensor:
        decode = cast(Callable[..., tuple[Tensor]], self.network.decode)
        (picture,) = decode(samples.to(self.device, self.dtype), return_dict=False)
        return picture.float().add(1).div(2).clamp(0, 1).movedim(1, -1).cpu()

    def _encode(self, pixels: Tensor) -> Tensor:
        encode = cast(Callable[..., tuple[Any]], self.network.encode)
        (spread,) = encode(pixels.mul(2).sub(1).to(self.device, self.dtype), return_dict=False)
        latent: Tensor = spread.mode()
        return latent.float().cpu()

    def _parts(self, batch: Tensor, stride: int) -> Sequence[Tensor]:
        return torch.split(batch, max(1, PIXELS_AT_ONCE // (batch.shape[-1] * batch.shape[-2] * stride**2)))
