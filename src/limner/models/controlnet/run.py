"""run(): a control network block by block, over the same blocks as a UNet's way down."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from limner.models.controlnet.chain import Residuals
from limner.models.unet.layout import input_blocks, middle_blocks
from limner.models.unet.walk import run_block


def run(
    network: Any,
    x: Tensor,
    timestep: Tensor,
    context: Tensor,
    hint: Tensor,
    *,
    y: Tensor | None = None,
    kinds: list[int] | None = None,
) -> Residuals:
    """What diffusers' ControlNetModel gives, a residual for each skip of the UNet (`output`) and one for its `middle`.

    x: (B, C, h, w). timestep: (B,). context: (B, tokens, width). hint: (B, channels, h * 8, w * 8). y: the vector
    beside the text. kinds: for a ControlNetUnionModel, which kinds of picture the hint is; none lets it find out.
    """
    emb = network.time_embedding(network.time_proj(timestep).to(x.dtype))
    if network.class_embedding is not None:
        emb = emb + network.class_embedding(y)
    told: dict[str, Any] = {"transformer_index": 0}
    picture = network.controlnet_cond_embedding(hint)
    h, states = x, []
    for number, block in enumerate(input_blocks(network)):
        told["block"] = ("input", number)
        if number == 0:
            h = run_block(block, h, emb, context, told)
            if kinds is not None:
                emb = emb + _kind_vector(network, kinds, emb)
            h = h + (_fused(network, h, picture, kinds) if kinds else picture)
        else:
            h = run_block(block, h, emb, context, told)
        states.append(h)
    told["block"] = ("middle", 0)
    for block in middle_blocks(network):
        h = run_block(block, h, emb, context, told)
    ends = zip(network.controlnet_down_blocks, states, strict=True)
    return {"middle": [network.controlnet_mid_block(h)], "output": [end(state) for end, state in ends]}


def _kind_vector(network: Any, kinds: list[int], like: Tensor) -> Tensor:
    """What the kinds of picture add to the time."""
    told = torch.zeros(network.config.num_control_type, device=like.device)
    told[kinds] = 1
    vector: Tensor = network.control_add_embedding(network.control_type_proj(told).reshape(1, -1).to(like.dtype))
    return vector


def _fused(network: Any, x: Tensor, picture: Tensor, kinds: list[int]) -> Tensor:
    """The picture with what its kind, seen beside x, adds to each channel."""
    seen = [picture.mean(dim=(2, 3)) + network.task_embedding[kinds[0]], x.mean(dim=(2, 3))]
    tokens = torch.stack(seen, dim=1)
    for layer in network.transformer_layes:
        tokens = layer(tokens)
    shift: Tensor = network.spatial_ch_projs(tokens[:, 0])
    return picture + shift[..., None, None]
