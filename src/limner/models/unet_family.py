"""UNetFamily: what the families of the Stable Diffusion kind have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from limner.diffusion.conds import Cond, CrossAttention, NoiseShape, Regular
from limner.diffusion.denoiser import Prediction
from limner.diffusion.latents import LatentFormat
from limner.diffusion.planes import fitted
from limner.errors import UnfitInput
from limner.models import unet
from limner.models.build import empty, fill
from limner.models.checkpoint import Header
from limner.models.device import Devices
from limner.models.family import Family
from limner.models.model import BaseModel, Model, Options
from limner.models.prediction import prediction
from limner.models.unet_layout import key_map, unet_config
from limner.models.weights import Weights

PREFIX = "diffusion_model."

Facts = Mapping[str, Any]


class UNetFamily(Family):
    """A UNet under text. Rombach et al. 2022, arXiv:2112.10752.

    Widths and depths come from the shapes, norm groups are 32. head_width: channels of an attention head; None for 8
    heads everywhere. `limner.config` may say otherwise. Models with 9 channels take a mask and the picture around it,
    those with 8 a picture to change (Brooks et al. 2023, arXiv:2211.09800).
    """

    head_width: int | None = None

    @abstractmethod
    def has_layout(self, unet: Header, file: Header) -> bool:
        """Whether this UNet is of the family."""

    def matches(self, denoiser: Header, file: Header) -> bool:
        return "input_blocks.0.0.weight" in denoiser and "middle_block.1.proj_in.weight" in denoiser and (
            self.has_layout(denoiser, file)
        )  # fmt: skip

    def prediction(self, file: Weights) -> Prediction:
        """What the network predicts."""
        return prediction(file)

    def latent_format(self, file: Weights) -> LatentFormat:
        """The latent space, with the file's own guess at colours, if it has one."""
        return with_own_colours(self.latents, file.header)

    def load_model(self, denoiser: Weights, file: Weights, devices: Devices) -> Model:
        from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

        header = denoiser.header
        config = unet_config(header, head_width=self.head_width)
        if config["in_channels"] not in INPUTS:
            raise header.fault(
                f"its UNet takes {config['in_channels']} channels; those with 4, with 9 (inpainting) and with 8 "
                "(pictures to change) can be run"
            )
        network = empty(lambda: UNet2DConditionModel(**config))
        keys = key_map(network.state_dict(), config)
        tensors = denoiser.tensors()
        fill(network, keys, tensors, header=header, part="UNet", prefix=PREFIX)
        return Model(
            BaseModel(
                name=header.path.name,
                architecture=self,
                diffusion_model=network,
                keys=keys,
                model_sampling=self.prediction(file),
                latent_format=self.latent_format(file),
                device=devices.device,
                dtype=devices.network_dtype(sum(weight.numel() for weight in tensors.values())),
                context_width=config["cross_attention_dim"],
                in_channels=config["in_channels"],
                adm_channels=config.get("projection_class_embeddings_input_dim", 0),
                native_size=header.number("native_size"),
                facts=self.facts(file),
                told=header.told(),
            )
        )

    def facts(self, file: Weights) -> Mapping[str, Any]:
        """What else of the file `forward` and `extra_conds` need."""
        return {"edits_latents": "edm_vpred.sigma_max" in file}

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
        y = conds.get("y")
        return unet.run(
            model.diffusion_model,
            x,
            timestep,
            context,
            y=None if y is None else y.to(x.dtype),
            control=control,
            transformer_options=transformer_options,
        )

    def extra_conds(self, model: BaseModel, facts: Facts) -> dict[str, Cond]:
        context = facts["cross_attn"]
        if context.ndim != 3 or context.shape[-1] != model.context_width:
            raise UnfitInput(
                f"the conditioning has the shape {tuple(context.shape)}, {model.name} takes (batch, tokens, "
                f"{model.context_width}); encode the prompt with the text encoder of the same checkpoint"
            )
        conds: dict[str, Cond] = {"c_crossattn": CrossAttention(context)}
        if model.in_channels > model.latent_format.channels:
            conds["c_concat"] = NoiseShape(self.beside(model, facts))
        if "cross_attn_controlnet" in facts:  # control networks may read another text
            conds["crossattn_controlnet"] = CrossAttention(facts["cross_attn_controlnet"])
        if model.adm_channels:
            conds["y"] = Regular(self.vector(model, facts))
        return conds

    def vector(self, model: BaseModel, facts: Facts) -> Tensor:  # noqa: ARG002
        """What the network takes beside the text, (B or 1, adm_channels)."""
        raise UnfitInput(f"{model.name} takes a vector of {model.adm_channels} beside the text, of unknown meaning")

    def beside(self, model: BaseModel, facts: Facts) -> Tensor:
        """The channels behind x's: (B, in_channels - 4, h, w)."""
        if model.in_channels == INPAINTING:
            return inpainting_channels(model.latent_format, facts)
        return picture_to_change(model, facts)


INPAINTING = 9
INPUTS = frozenset({4, 8, INPAINTING})
"""Channels that such a UNet may take: a latent; with a second one; with a mask and a masked latent."""


def inpainting_channels(latents: LatentFormat, facts: Facts) -> Tensor:
    """The mask (1 where to paint) and the latent of the picture without what it covers, (B, 5, h, w).

    The mask is the conditioning's (`concat_mask`), else that of the latent, else it covers everything; the picture is
    the conditioning's (`concat_latent_image`), else the latent itself, else nothing.
    """
    noise: Tensor = facts["noise"]
    mask, picture = facts.get("concat_mask"), facts.get("concat_latent_image")
    if mask is None:
        mask = facts.get("denoise_mask")
    if picture is not None:
        picture = latents.into_network(picture.to(noise))
    elif mask is not None:
        picture = facts.get("latent_image")
    mask = torch.ones_like(noise[:, :1]) if mask is None else _fitted(_as_batch(mask)[:, :1], noise).round()
    picture = torch.zeros_like(noise) if picture is None else _fitted(picture, noise)
    if picture.shape[1] != latents.channels:
        raise UnfitInput(f"the picture around the mask has {picture.shape[1]} channels, {latents.channels} are right")
    return torch.cat([mask, picture], dim=1)


def picture_to_change(model: BaseModel, facts: Facts) -> Tensor:
    """The latent of the picture to change, in the units of the VAE, as such networks were trained."""
    noise: Tensor = facts["noise"]
    picture = facts.get("concat_latent_image")
    if picture is None:
        return torch.zeros_like(noise)
    if picture.shape[1] != model.latent_format.channels:
        raise UnfitInput(
            f"the picture to change has {picture.shape[1]} channels, {model.latent_format.channels} are right"
        )
    if model.facts.get("edits_latents"):  # CosXL was trained on scaled ones; diffusers knows the two kinds apart too
        picture = model.latent_format.into_network(picture)
    return _fitted(picture, noise)


def with_own_colours(latents: LatentFormat, header: Header) -> LatentFormat:
    """The format with the file's own guess at colours, if any: `latent_rgb`, a row per channel, then the bias."""
    told = header.told().get("latent_rgb")
    if told is None:
        return latents
    try:
        *rows, bias = [(float(red), float(green), float(blue)) for red, green, blue in told]
    except (TypeError, ValueError) as error:
        raise header.fault("its metadata limner.config says latent_rgb that is not rows of three numbers") from error
    if len(rows) != latents.channels:
        raise header.fault(f"its metadata limner.config says latent_rgb with {len(rows)} channels and a bias")
    return replace(latents, rgb=tuple(rows), rgb_bias=bias)


def _as_batch(mask: Tensor) -> Tensor:
    """A mask (H, W), (B, H, W) or (B, C, H, W) with all four dimensions."""
    if mask.ndim == 2:
        mask = mask[None]
    return mask[:, None] if mask.ndim == 3 else mask


def _fitted(picture: Tensor, noise: Tensor) -> Tensor:
    """A tensor (B, C, h, w) in the size, the number and the place of the noise."""
    return fitted(picture.to(noise.device, torch.float32), noise.shape[-2:], len(noise))
