"""Vae: pictures or sound into latents and back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from limner.diffusion.latents import AXES, LatentFormat
from limner.errors import UnfitInput
from limner.models.keys import KeyMap
from limner.models.known_vae import KnownVae
from limner.models.patcher import Patcher
from limner.models.residency import use, within_memory
from limner.models.tiles import OnTile, nothing, tiled

PIXELS_AT_ONCE = 512 * 512
"""A batch goes through the network in parts of about this many pixels, so that a large one needs no more memory."""

TILE, OVERLAP = 512, 64
"""Edge of a tile in pixels where memory does not suffice for the whole, and what neighbours share."""


class Codec(ABC):
    """How a kind of network is called. Values are those of the network: pictures -1..1, (B, C, H, W)."""

    @abstractmethod
    def encode(self, network: nn.Module, x: Tensor) -> Tensor:
        """Latents of pictures."""

    @abstractmethod
    def decode(self, network: nn.Module, samples: Tensor) -> Tensor:
        """Pictures of latents."""


class SpreadCodec(Codec):
    """Of diffusers' AutoencoderKL and its kin: of the spread that they tell of a latent the middle is taken."""

    def encode(self, network: nn.Module, x: Tensor) -> Tensor:
        encode = cast(Callable[..., tuple[Any]], network.encode)
        (spread,) = encode(x, return_dict=False)
        return cast(Tensor, spread.mode())

    def decode(self, network: nn.Module, samples: Tensor) -> Tensor:
        decode = cast(Callable[..., tuple[Tensor]], network.decode)
        return decode(samples, return_dict=False)[0]


class Vae(KnownVae):
    """What a VAE socket carries.

    latents: the space; its channels, dimensions and stride are those of this VAE. channels: of what is encoded (3
    colours, 2 sides of a sound). told: what the file's metadata said of it.
    """

    def __init__(
        self,
        *,
        name: str,
        network: nn.Module,
        keys: KeyMap,
        codec: Codec,
        latents: LatentFormat,
        device: torch.device,
        dtype: torch.dtype,
        channels: int = 3,
        sample_rate: int = 0,
        told: Mapping[str, Any] | None = None,
    ) -> None:
        self.name = name
        self.patcher = Patcher(network, keys, device, dtype)
        self.codec = codec
        self.latents = latents
        self.channels = channels
        self.sample_rate = sample_rate
        self.told = told or {}

    @property
    def network(self) -> nn.Module:
        return self.patcher.module

    @property
    def first_stage_model(self) -> nn.Module:
        """The network, by the name that node packs know."""
        return self.patcher.module

    @property
    def device(self) -> torch.device:
        return self.patcher.load_device

    @property
    def dtype(self) -> torch.dtype | None:
        return self.patcher.dtype

    def decode(self, samples: Tensor) -> Tensor:
        """Latents (B, C, h, w) into pictures (B, H, W, 3), float32 in 0..1 on the CPU.

        Where memory does not suffice, tile by tile. Raises UnfitInput for latents of another space, OutOfMemory.
        """
        self._check(samples)
        edges = "x".join(str(edge * self.latents.stride) for edge in reversed(samples.shape[2:]))
        return within_memory(
            lambda: self._whole(samples), lambda: self._pieces(samples), what=f"decoding {len(samples)} of {edges}"
        )

    def decode_tiled(
        self,
        samples: Tensor,
        tile_x: int | None = None,
        tile_y: int | None = None,
        overlap: int | None = None,
        *,
        on_tile: OnTile = nothing,
    ) -> Tensor:
        """The same tile by tile: edges of a tile and what neighbours share in places of the latent, seams blended."""
        self._check(samples)
        stride = self.latents.stride
        tile = (tile_y or TILE // stride, tile_x or TILE // stride)
        shared = OVERLAP // stride if overlap is None else overlap
        return within_memory(
            lambda: self._decode_tiles(samples, tile, shared, on_tile), what=f"decoding tiles of {tile[1]}x{tile[0]}"
        )

    def encode(self, pixels: Tensor) -> Tensor:
        """Pictures (B, H, W, 3 or more) in 0..1 into latents (B, C, H // stride, W // stride), float32 on the CPU.

        What does not fill a whole place is cut off on both sides alike. Where memory does not suffice, tile by tile.
        Raises UnfitInput for too small pictures, OutOfMemory.
        """
        x = self.fitted(pixels)
        edges = "x".join(str(edge) for edge in reversed(x.shape[2:]))
        return within_memory(
            lambda: self._encode_whole(x),
            lambda: self._encode_tiles(x, (TILE, TILE), OVERLAP, nothing),
            what=f"encoding {len(x)} of {edges}",
        )

    def encode_tiled(
        self,
        pixels: Tensor,
        tile_x: int | None = None,
        tile_y: int | None = None,
        overlap: int | None = None,
        *,
        on_tile: OnTile = nothing,
    ) -> Tensor:
        """The same tile by tile: edges of a tile and what neighbours share in pixels, seams blended."""
        x = self.fitted(pixels)
        tile = (tile_y or TILE, tile_x or TILE)
        shared = OVERLAP if overlap is None else overlap
        return within_memory(
            lambda: self._encode_tiles(x, tile, shared, on_tile), what=f"encoding tiles of {tile[1]}x{tile[0]}"
        )

    def fitted(self, pixels: Tensor) -> Tensor:
        """Pictures (B, H, W, C) as (B, 3, H, W), cut to whole places. Raises UnfitInput where nothing is left."""
        stride = self.latents.stride
        if self.latents.dimensions != 2:
            raise UnfitInput(f"{self.name} is no VAE for pictures; encode sound with VAEEncodeAudio")
        if pixels.ndim != 4:
            raise UnfitInput(f"pictures have the shape (batch, height, width, channels), not {tuple(pixels.shape)}")
        height, width = (edge // stride * stride for edge in pixels.shape[1:3])
        if not len(pixels) or not height or not width or pixels.shape[-1] < self.channels:
            what = "a picture" if len(pixels) else "a batch without pictures"
            raise UnfitInput(
                f"{what} of {pixels.shape[2]}x{pixels.shape[1]} with {pixels.shape[-1]} channels cannot be encoded: "
                f"one of {stride}x{stride} with {self.channels} is the least"
            )
        top, left = (pixels.shape[1] - height) // 2, (pixels.shape[2] - width) // 2
        return pixels[:, top : top + height, left : left + width, : self.channels].movedim(-1, 1)

    def encode_sound(self, waveform: Tensor) -> Tensor:
        """Sound (B, channels, n) in -1..1 at `sample_rate` into latents (B, C, n / stride), float32 on the CPU."""
        if not self.sample_rate:
            raise UnfitInput(f"{self.name} is no VAE for sound; load that of an audio model")
        return within_memory(lambda: self._run(self.codec.encode, [waveform]), what="encoding sound")

    def decode_sound(self, samples: Tensor) -> Tensor:
        """Latents (B, C, n) into sound (B, channels, n * stride) in -1..1, float32 on the CPU."""
        if not self.sample_rate:
            raise UnfitInput(f"{self.name} is no VAE for sound; load that of an audio model")
        self._check(samples)
        return within_memory(lambda: self._run(self.codec.decode, [samples]), what="decoding sound")

    def _check(self, samples: Tensor) -> None:
        wanted = AXES[self.latents.dimensions]
        if samples.ndim != len(wanted) or samples.shape[1] != self.latents.channels or not len(samples):
            places = ", ".join(str(self.latents.channels) if axis == "channels" else axis for axis in wanted)
            raise UnfitInput(
                f"the latent has the shape {tuple(samples.shape)}, this VAE decodes ({places}); "
                f"use the VAE of the model that made the latent, not {self.name}"
            )

    def _whole(self, samples: Tensor) -> Tensor:
        if self.latents.dimensions != 2:
            return self._run(self.codec.decode, [samples])
        return as_pictures(self._run(self.codec.decode, self._parts(samples, self.latents.stride)))

    def _pieces(self, samples: Tensor) -> Tensor:
        if self.latents.dimensions != 2:
            return self._whole(samples)
        stride = self.latents.stride
        return self._decode_tiles(samples, (TILE // stride,) * 2, OVERLAP // stride, nothing)

    def _decode_tiles(self, samples: Tensor, tile: tuple[int, int], overlap: int, on_tile: OnTile) -> Tensor:
        scale = float(self.latents.stride)
        with torch.inference_mode(), use(self.patcher):
            return as_pictures(
                tiled(
                    lambda part: self._call(self.codec.decode, part),
                    samples,
                    tile=tile,
                    overlap=min(overlap, min(tile) // 4),
                    scale=scale,
                    channels=self.channels,
                    on_tile=on_tile,
                )
            )

    def _encode_whole(self, x: Tensor) -> Tensor:
        return self._run(self.codec.encode, [part * 2 - 1 for part in self._parts(x, 1)])

    def _encode_tiles(self, x: Tensor, tile: tuple[int, int], overlap: int, on_tile: OnTile) -> Tensor:
        stride = self.latents.stride
        whole = tuple(max(1, edge // stride) * stride for edge in tile)  # a tile begins and ends with a place
        shared = min(overlap, min(whole) // 4) // stride * stride
        with torch.inference_mode(), use(self.patcher):
            return tiled(
                lambda part: self._call(self.codec.encode, part * 2 - 1),
                x,
                tile=whole,
                overlap=shared,
                scale=1 / stride,
                channels=self.latents.channels,
                on_tile=on_tile,
            )

    def _run(self, function: Callable[[nn.Module, Tensor], Tensor], parts: list[Tensor]) -> Tensor:
        with torch.inference_mode(), use(self.patcher):
            return torch.cat([self._call(function, part) for part in parts])

    def _call(self, function: Callable[[nn.Module, Tensor], Tensor], part: Tensor) -> Tensor:
        return function(self.network, part.to(self.device, self.dtype)).float().cpu()

    def _parts(self, batch: Tensor, stride: int) -> list[Tensor]:
        return list(torch.split(batch, max(1, PIXELS_AT_ONCE // (batch.shape[-1] * batch.shape[-2] * stride**2))))


def as_pictures(x: Tensor) -> Tensor:
    """What a network decoded, (B, C, H, W) in -1..1, as pictures (B, H, W, C) in 0..1."""
    return x.add(1).div(2).clamp(0, 1).movedim(1, -1)
