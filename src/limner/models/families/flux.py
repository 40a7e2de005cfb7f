"""Flux.1: dev, schnell, Kontext (pictures to go by), Fill (inpainting), and those led by edges or depth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limner.diffusion import formats
from limner.diffusion.conds import Cond, Constant, NoiseShape, Regular, Several
from limner.diffusion.latents import LatentFormat
from limner.diffusion.levels import Levels, exponential_shift
from limner.diffusion.planes import fitted
from limner.errors import UnfitInput
from limner.models.checkpoint import Header
from limner.models.flow.family import Facts, FlowFamily
from limner.models.flow.flux_layout import MARK, flux_config, key_map
from limner.models.keys import KeyMap
from limner.models.model import BaseModel, Options

CHANNELS = 16
LED, FILL = 2 * CHANNELS, 2 * CHANNELS + 64
INPUTS = frozenset({CHANNELS, LED, FILL})
"""Channels that such a network may take: a latent; with a second one; with a masked one and the 8x8 pixels of a mask
behind each place."""

SHIFT = 1.15
"""Of a network that was distilled with guidance, for pictures of 1024x1024; schnell needs none."""

USUAL_GUIDANCE = 3.5


class Flux(FlowFamily):
    """Flux.1 of Black Forest Labs, 2024. Text tokens of T5, a pooled vector of CLIP-L, rectified flow."""

    name = "flux"
    title = "Flux.1"
    text = "flux"
    latents = formats.FLUX

    def matches(self, denoiser: Header, file: Header) -> bool:  # noqa: ARG002
        others = ("distilled_guidance_layer.", "single_stream_modulation.", "early_stream_modulations.")
        return MARK in denoiser and "vector_in.in_layer.weight" in denoiser and not any(map(denoiser.has, others))

    def config(self, header: Header) -> dict[str, Any]:
        config = flux_config(header)
        if config["in_channels"] // 4 not in INPUTS or config["out_channels"] != 4 * CHANNELS:
            raise header.fault(
                f"its tokens have {config['in_channels']} values; those with 64, with 128 (led by a picture) and with "
                "384 (Fill) can be run"
            )
        return config

    def network(self, config: Mapping[str, Any]) -> nn.Module:
        from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel

        from limner.models.flow.joint import use_joint_attention

        network: nn.Module = FluxTransformer2DModel(**config)
        use_joint_attention(network)
        return network

    def keys(self, weights: Mapping[str, Tensor], config: Mapping[str, Any]) -> KeyMap:
        return key_map(weights, config)

    def levels(self, config: Mapping[str, Any]) -> Levels:
        return exponential_shift(SHIFT if config["guidance_embeds"] else 0.0)

    def widths(self, config: Mapping[str, Any]) -> tuple[int, int, int]:
        return config["joint_attention_dim"], config["pooled_projection_dim"], config["in_channels"] // 4

    def forward(
        self,
        model: BaseModel,
        x: Tensor,
        timestep: Tensor,
        context: Tensor,
        *,
        control: Mapping[str, list[Tensor | None]] | None,
        transformer_options: Options,
        **conds: Any,
    ) -> Tensor:
        from limner.models.flow import flux, joint

        joint.refuse_control(control, model.name)
        y = conds.get("y")
        return flux.run(
            model.diffusion_model,
            x,
            timestep,
            context,
            y=x.new_zeros(len(x), model.adm_channels) if y is None else y,
            guidance=conds.get("guidance"),
            references=[each.to(x) for each in conds.get("ref_latents", ())],
            method=conds.get("ref_latents_method", "offset"),
            biases=conds.get("attention_bias", ()),
            options=transformer_options,
        )

    def extra_conds(self, model: BaseModel, facts: Facts) -> dict[str, Cond]:
        """guidance: as the conditioning tells it, 3.5 where it is silent, none where it says None; a network without
        guidance takes no notice.
        """
        conds = super().extra_conds(model, facts)
        guidance = facts.get("guidance", USUAL_GUIDANCE)
        if guidance is not None:
            conds["guidance"] = Regular(torch.tensor([float(guidance)]))
        if facts.get("reference_latents"):
            conds["ref_latents"] = Several([_reference(model, each) for each in facts["reference_latents"]])
            conds["ref_latents_method"] = Constant(facts.get("reference_latents_method") or "offset")
        if facts.get("attention_bias"):
            conds["attention_bias"] = Constant(facts["attention_bias"])
        if model.in_channels > CHANNELS:
            conds["c_concat"] = NoiseShape(_beside(model, facts))
        return conds


def _reference(model: BaseModel, samples: Tensor) -> Tensor:
    """A picture to go by, in the network's units. Raises UnfitInput for one of another latent space."""
    return model.latent_format.into_network(_checked(samples, "a reference latent").float())


def _beside(model: BaseModel, facts: Facts) -> Tensor:
    """The channels behind x's: (B, in_channels - 16, h, w). Nothing shown is an empty picture; no mask, all of it."""
    noise: Tensor = facts["noise"]
    picture = facts.get("concat_latent_image")
    shown = torch.zeros_like(noise)
    if picture is not None:
        shown = fitted(_latent(model.latent_format, picture).to(noise), noise.shape[-2:], len(noise))
    if model.in_channels == LED:
        return shown
    mask = facts.get("concat_mask")
    if mask is None:
        mask = facts.get("denoise_mask")
    if mask is None:
        return torch.cat([shown, noise.new_ones(len(noise), FILL - LED, *noise.shape[-2:])], dim=1)
    stride = model.latent_format.stride
    pixels = mask.reshape(-1, 1, *mask.shape[-2:]).to(noise) if mask.ndim < 4 else mask[:, :1].to(noise)
    pixels = fitted(pixels, [edge * stride for edge in noise.shape[-2:]], len(noise)).round()
    return torch.cat([shown, F.pixel_unshuffle(pixels, stride)], dim=1)


def _latent(latents: LatentFormat, samples: Tensor) -> Tensor:
    return latents.into_network(_checked(samples, "the picture beside the latent").float())


def _checked(samples: Tensor, what: str) -> Tensor:
    if samples.ndim != 4 or samples.shape[1] != CHANNELS:
        raise UnfitInput(
            f"{what} has the shape {tuple(samples.shape)}, Flux.1 takes (batch, {CHANNELS}, height, width): encode the "
            "picture with the VAE of Flux.1"
        )
    return samples
