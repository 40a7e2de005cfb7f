"""Model: a denoising network on its device, with all that sampling must know of it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from limner.diffusion.denoiser import Prediction
from limner.diffusion.latents import LatentFormat


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Model:
    """What a MODEL socket carries. native_size: edge in pixels of the pictures it learned from, if told."""

    name: str
    network: nn.Module
    prediction: Prediction
    latents: LatentFormat
    device: torch.device
    dtype: torch.dtype
    context_width: int
    native_size: int | None = None

    def predict(self, x: Tensor, sigma: Tensor, context: Tensor) -> Tensor:
        """The clean x that the network expects behind x at level sigma, for each item under its own encoded text.

        x: (B, C, h, w) float32. context: (B, tokens, width). Both on this model's device.
        """
        scaled = self.prediction.network_input(x, sigma).to(self.dtype)
        timestep = self.prediction.levels.timestep(sigma).expand(len(x))
        answer = self.network(scaled, timestep, encoder_hidden_states=context.to(self.dtype), return_dict=False)[0]
        return self.prediction.clean(x, answer.float(), sigma)
