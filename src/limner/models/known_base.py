"""The names under which node packs know a base model, what it predicts and of which family it is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import torch
from torch import Tensor

from limner.diffusion import denoiser
from limner.diffusion.latents import LatentFormat
from limner.diffusion.levels import CosineLevels, FlowLevels


class ModelType(Enum):
    """What a network predicts, as packs know it."""

    EPS = 1
    V_PREDICTION = 2
    V_PREDICTION_EDM = 3
    STABLE_CASCADE = 4
    EDM = 5
    FLOW = 6
    V_PREDICTION_CONTINUOUS = 7
    FLUX = 8
    IMG_TO_IMG = 9
    FLOW_COSMOS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """What packs read of a family. unet_config: widths and channels, by the original layout's names."""

    family: str
    unet_config: Mapping[str, Any]
    sampling_settings: Mapping[str, Any]
    latent_format: LatentFormat
    manual_cast_dtype: torch.dtype | None = None
    unet_extra_config: Mapping[str, Any]
    memory_usage_factor: float = 1.0


class KnownBase:
    """What packs ask of a base model (`model.model`)."""

    __slots__ = ()

    @property
    def model_type(self: Any) -> ModelType:
        """By what its network predicts."""
        sampling = self.model_sampling
        levels = getattr(sampling, "levels", None)
        if isinstance(sampling, denoiser.Flow):
            flux = isinstance(levels, FlowLevels) and levels.full == 1.0 and len(levels) == 10000
            return ModelType.FLUX if flux else ModelType.FLOW
        if isinstance(sampling, denoiser.Epsilon) and isinstance(levels, CosineLevels):
            return ModelType.STABLE_CASCADE
        return next((kind for each, kind in TYPES if isinstance(sampling, each)), ModelType.EPS)

    @property
    def model_config(self: Any) -> ModelConfig:
        return ModelConfig(
            family=self.architecture.name,
            unet_config={
                "in_channels": self.in_channels,
                "out_channels": self.latent_format.channels,
                "context_dim": self.context_width,
                "adm_in_channels": self.adm_channels or None,
                "model_channels": _first_width(self.diffusion_model),
                "image_model": None if "sd" in self.architecture.name else self.architecture.name,
            },
            sampling_settings={"shift": getattr(self.model_sampling.levels, "shift", None)}
            if hasattr(getattr(self.model_sampling, "levels", None), "shift")
            else {},
            latent_format=self.latent_format,
            unet_extra_config={},
        )

    @property
    def manual_cast_dtype(self) -> torch.dtype | None:
        """Weights are kept in the precision in which they are used."""
        return None

    @property
    def memory_usage_factor(self) -> float:
        return 1.0

    @property
    def concat_keys(self: Any) -> tuple[str, ...]:
        return ("mask", "masked_image") if self.in_channels > self.latent_format.channels else ()

    def get_dtype(self: Any) -> torch.dtype:
        """The precision in which its network runs."""
        dtype: torch.dtype = self.dtype
        return dtype

    def is_adm(self: Any) -> bool:
        """Whether its network takes a vector beside the text."""
        return bool(self.adm_channels)

    def process_latent_in(self: Any, latent: Tensor) -> Tensor:
        """Latents of the VAE in the network's units."""
        inside: Tensor = self.latent_format.into_network(latent)
        return inside

    def process_latent_out(self: Any, latent: Tensor) -> Tensor:
        outside: Tensor = self.latent_format.out_of_network(latent)
        return outside

    def scale_latent_inpaint(self: Any, sigma: Tensor, noise: Tensor, latent_image: Tensor, **_: Any) -> Tensor:
        """What a mask keeps, under noise of a level."""
        level = sigma.reshape(sigma.shape[:1] + (1,) * (noise.ndim - 1))
        covered: Tensor = self.model_sampling.path.noised(latent_image, noise, level)
        return covered

    def memory_required(self: Any, input_shape: Sequence[int], **_: Any) -> float:
        """Bytes that a batch of this shape (B, C, ...) takes beside the weights, roughly."""
        return input_shape[0] * math.prod(input_shape[2:]) * VALUES_PER_PLACE * float(self.dtype.itemsize)


VALUES_PER_PLACE = 40_000

TYPES = (
    (denoiser.Velocity, ModelType.V_PREDICTION),
    (denoiser.Edm, ModelType.EDM),
    (denoiser.Restored, ModelType.IMG_TO_IMG),
    (denoiser.CosmosFlow, ModelType.FLOW_COSMOS),
)


def _first_width(network: Any) -> int | None:
    first = getattr(network, "conv_in", None)
    return None if first is None else int(first.out_channels)
