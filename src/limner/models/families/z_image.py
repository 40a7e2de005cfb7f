"""Z-Image, base and Turbo."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from limner.diffusion import formats
from limner.diffusion.levels import Levels, straight
from limner.models.checkpoint import Header
from limner.models.flow.family import FlowFamily
from limner.models.flow.z_image_layout import MARK, key_map, z_image_config
from limner.models.keys import KeyMap
from limner.models.model import BaseModel, Options

SHIFT = 3.0
"""As Z-Image Turbo's published scheduler has it."""


class ZImage(FlowFamily):
    """Z-Image. Z-Image Team 2025, arXiv:2511.22699. One row of tokens for text and picture; the text is Qwen3's."""

    name = "z_image"
    title = "Z-Image"
    text = "z_image"
    latents = formats.FLUX
    not_read = frozenset({"norm_final.weight"})

    def matches(self, denoiser: Header, file: Header) -> bool:  # noqa: ARG002
        return MARK in denoiser and "cap_embedder.0.weight" in denoiser and "x_pad_token" in denoiser

    def config(self, header: Header) -> dict[str, Any]:
        config = z_image_config(header)
        if config["in_channels"] != self.latents.channels:
            raise header.fault(f"its tokens are of {config['in_channels']} channels; 16 can be run")
        return config

    def network(self, config: Mapping[str, Any]) -> nn.Module:
        from diffusers.models.transformers.transformer_z_image import ZImageTransformer2DModel

        from limner.models.flow.z_image import use_single_attention

        network: nn.Module = ZImageTransformer2DModel(**config)
        use_single_attention(network)
        return network

    def keys(self, weights: Mapping[str, Tensor], config: Mapping[str, Any]) -> KeyMap:
        return key_map(weights, config)

    def levels(self, config: Mapping[str, Any]) -> Levels:  # noqa: ARG002
        return straight(SHIFT, full=1.0)

    def widths(self, config: Mapping[str, Any]) -> tuple[int, int, int]:
        return config["cap_feat_dim"], 0, config["in_channels"]

    def forward(
        self,
        model: BaseModel,
        x: Tensor,
        timestep: Tensor,
        context: Tensor,
        *,
        control: Mapping[str, list[Tensor | None]] | None,
        transformer_options: Options,
        **conds: Any,  # noqa: ARG002 - it takes nothing beside the text
    ) -> Tensor:
        from limner.models.flow import joint, z_image

        joint.refuse_control(control, model.name)
        return z_image.run(model.diffusion_model, x, timestep, context, options=transformer_options)
