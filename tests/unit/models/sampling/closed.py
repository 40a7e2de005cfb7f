"""A model whose every answer is known: pictures are draws from a normal distribution whose mean the text tells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from limner.diffusion.conditioning import Conditioning
from limner.diffusion.conds import Cond, CrossAttention, NoiseShape, Regular
from limner.diffusion.denoiser import Epsilon, Flow, Prediction
from limner.diffusion.latents import LatentFormat
from limner.diffusion.levels import scaled_linear, straight
from limner.models.keys import KeyMap
from limner.models.model import BaseModel, Model

WIDTH = 8


class Exploding(Epsilon):
    """The network tells the clean picture itself."""

    __slots__ = ()

    def network_input(self, x: Tensor, sigma: Tensor) -> Tensor:
        return x

    def clean(self, x: Tensor, output: Tensor, sigma: Tensor) -> Tensor:
        return output


class Straight(Flow):
    __slots__ = ()

    def clean(self, x: Tensor, output: Tensor, sigma: Tensor) -> Tensor:
        return output


EXPLODING = Exploding(scaled_linear(0.00085, 0.012, steps=1000))
STRAIGHT = Straight(straight(3))
LATENTS = LatentFormat(name="closed", channels=4, stride=8, scale=1.0, rgb=((0.5, 0.0, 0.0),) * 4)


@dataclass
class Call:
    """What the network was given at one call."""

    x: Tensor
    sigma: float
    text: list[float]
    control: Any
    options: dict[str, Any]
    conds: dict[str, Any]


@dataclass
class Closed:
    """An architecture: the mean is `mean` times what the text says, plus `pixels` where a conditioning brings some."""

    mean: Tensor
    spread: float = 0.7
    name: str = "closed"
    title: str = "Closed form"
    calls: list[Call] = field(default_factory=list)
    facts: list[dict[str, Any]] = field(default_factory=list)

    def forward(
        self, model: BaseModel, x: Tensor, timestep: Tensor, context: Tensor, *,
        control: Any, transformer_options: dict[str, Any], **conds: Any,
    ) -> Tensor:  # fmt: skip
        sigma = transformer_options["sigmas"][0]
        told = context.mean(dim=(1, 2))
        self.calls.append(Call(x, float(sigma), told.tolist(), control, transformer_options, conds))
        mean = self._mean(x, told)
        if "pixels" in conds:
            mean = mean + conds["pixels"]
        if control:
            mean = mean + control["middle"][0]
        kept, variance = model.model_sampling.path.kept(sigma), self.spread**2
        return mean + kept * variance / (kept**2 * variance + sigma**2) * (x - kept * mean)

    def _mean(self, x: Tensor, told: Tensor) -> Tensor:
        if self.mean.shape[2:] != x.shape[2:]:
            return self.mean.mean() * told.reshape(-1, 1, 1, 1) + torch.zeros_like(x)
        return self.mean * told.reshape(-1, *[1] * (x.ndim - 1)) + torch.zeros_like(x)

    def extra_conds(self, model: BaseModel, facts: Mapping[str, Any]) -> dict[str, Cond]:
        self.facts.append(dict(facts))
        made: dict[str, Cond] = {"c_crossattn": CrossAttention(facts["cross_attn"])}
        if "pixels" in facts:
            made["pixels"] = NoiseShape(facts["pixels"])
        if "pooled_output" in facts:
            made["y"] = Regular(facts["pooled_output"])
        return made


def text(value: float, tokens: int = 3, **extras: Any) -> Conditioning:
    return [(torch.full((1, tokens, WIDTH), value), extras)]


def closed(
    mean: Tensor | float = 1.0, *, prediction: Prediction = EXPLODING, latents: LatentFormat = LATENTS, **facts: Any
) -> tuple[Model, Closed]:
    architecture = Closed(torch.as_tensor(mean) * torch.ones(1, latents.channels, 1, 1), **facts)
    network = nn.Linear(2, 2)
    base = BaseModel(
        name="closed",
        architecture=architecture,
        diffusion_model=network,
        keys=KeyMap.same(network, "diffusion_model."),
        model_sampling=prediction,
        latent_format=latents,
        device=torch.device("cpu"),
        dtype=torch.float32,
        context_width=WIDTH,
        in_channels=latents.channels,
    )
    return Model(base), architecture
