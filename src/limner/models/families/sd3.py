"""Stable Diffusion 3 and 3.5, medium and large."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from limner.diffusion import formats
from limner.diffusion.levels import Levels, straight
from limner.models.checkpoint import Header
from limner.models.flow.family import FlowFamily
from limner.models.flow.sd3_layout import MARK, key_map, sd3_config
from limner.models.flow.tokens import EDGE
from limner.models.keys import KeyMap
from limner.models.model import BaseModel, Options

SHIFT = 3.0


class Sd3(FlowFamily):
    """Stable Diffusion 3. Esser et al. 2024, arXiv:2403.03206. Its text is CLIP-L beside OpenCLIP-G, then T5, any of
    which may be missing, and the pooled vectors of the first two. 3.5 medium has a second attention in early layers.
    """

    name = "sd3"
    title = "Stable Diffusion 3"
    text = "sd3"
    latents = formats.SD3

    def matches(self, denoiser: Header, file: Header) -> bool:  # noqa: ARG002
        return MARK in denoiser and "x_embedder.proj.weight" in denoiser and "pos_embed" in denoiser

    def config(self, header: Header) -> dict[str, Any]:
        config = sd3_config(header)
        taken, patch = config["in_channels"], config["patch_size"]
        if (taken, config["out_channels"], patch) != (self.latents.channels, self.latents.channels, EDGE):
            raise header.fault(f"its tokens are {patch}x{patch} places of {taken} channels; 2x2 of 16 can be run")
        return config

    def network(self, config: Mapping[str, Any]) -> nn.Module:
        """Its table of places comes from the file, so that none is calculated: it has up to a gigabyte."""
        from diffusers.models.transformers.transformer_sd3 import SD3Transformer2DModel

        from limner.models.flow.joint import use_joint_attention

        edge = config["pos_embed_max_size"]
        network: Any = SD3Transformer2DModel(**{**config, "pos_embed_max_size": 1})
        network.pos_embed.pos_embed_max_size = edge
        width = config["attention_head_dim"] * config["num_attention_heads"]
        network.pos_embed.pos_embed = torch.empty(1, edge**2, width, device="meta")
        use_joint_attention(network)
        made: nn.Module = network
        return made

    def keys(self, weights: Mapping[str, Tensor], config: Mapping[str, Any]) -> KeyMap:
        return key_map(weights, config)

    def levels(self, config: Mapping[str, Any]) -> Levels:  # noqa: ARG002
        return straight(SHIFT)

    def widths(self, config: Mapping[str, Any]) -> tuple[int, int, int]:
        return config["joint_attention_dim"], config["pooled_projection_dim"], config["in_channels"]

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
        from limner.models.flow import joint, sd3

        joint.refuse_control(control, model.name)
        y = conds.get("y")
        y = x.new_zeros(len(x), model.adm_channels) if y is None else y
        return sd3.run(model.diffusion_model, x, timestep, context, y=y, options=transformer_options)
