"""run(): a UNet block by block, from the top down and up again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from limner.errors import ModelFileError, UnfitInput
from limner.models.unet import transformer
from limner.models.unet.layout import Block, input_blocks, middle_blocks, output_blocks

Options = dict[str, Any]


def run(
    unet: Any,
    x: Tensor,
    timestep: Tensor,
    context: Tensor,
    *,
    y: Tensor | None = None,
    control: Mapping[str, Sequence[Tensor | None]] | None = None,
    transformer_options: Mapping[str, Any] | None = None,
) -> Tensor:
    """What a UNet2DConditionModel answers, (B, C, h, w); its own forward gives the same where nothing is hooked in.

    x: (B, C, h, w), of any size. timestep: (B,). context: (B, tokens, width). y: (B, adm channels), for networks with a
    vector beside the text. control: residuals by place: one is taken from the end of `input` after each block on the
    way down, one of `middle` at the bottom, one of `output` for each skip on the way up; None adds nothing.
    transformer_options: hooks under `patches` and `patches_replace`, by the names and arguments that node packs know;
    the walk tells them where it is: `block` ("input", 4), `block_index` of a layer, `transformer_index` of a
    transformer, `original_shape` of x. Raises UnfitInput where y or a residual is missing or does not fit.
    """
    options: Options = {**(transformer_options or {}), "original_shape": list(x.shape), "transformer_index": 0}
    patches = options.get("patches", {})
    residuals = _Residuals(control)
    emb = _embedded(unet, x, timestep, y)
    for patch in patches.get("emb_patch", ()):
        emb = patch(emb, unet.conv_in.out_channels, options)

    h, skips = x, []
    for number, block in enumerate(input_blocks(unet)):
        options["block"] = ("input", number)
        h = residuals.added("input", run_block(block, h, emb, context, options))
        for patch in patches.get("input_block_patch", ()):
            h = patch(h, options)
        skips.append(h)
        for patch in patches.get("input_block_patch_after_skip", ()):
            h = patch(h, options)

    options["block"] = ("middle", 0)
    for block in middle_blocks(unet):
        h = run_block(block, h, emb, context, options)
    h = residuals.added("middle", h)

    for number, block in enumerate(output_blocks(unet)):
        options["block"] = ("output", number)
        skip = residuals.added("output", skips.pop())
        for patch in patches.get("output_block_patch", ()):
            h, skip = patch(h, skip, options)
        h = run_block(block, torch.cat([h, skip], dim=1), emb, context, options, skips[-1] if skips else None)
    answer: Tensor = unet.conv_out(unet.conv_act(unet.conv_norm_out(h)))
    return answer


def _embedded(unet: Any, x: Tensor, timestep: Tensor, y: Tensor | None) -> Tensor:
    """The time, and what y adds to it."""
    emb: Tensor = unet.time_embedding(unet.get_time_embed(sample=x, timestep=timestep))
    label = getattr(unet, "add_embedding", None) or unet.class_embedding
    if label is None:
        return emb
    if y is None:
        raise UnfitInput("this model takes a vector beside the text (such as the size of the picture), and got none")
    wanted = label.linear_1.in_features
    if y.ndim != 2 or y.shape[1] != wanted or len(y) != len(x):
        raise UnfitInput(
            f"the vector beside the text has the shape {tuple(y.shape)}, this model takes {(len(x), wanted)}; encode "
            "the prompt with the text encoders of the same checkpoint"
        )
    added: Tensor = label(y.to(emb.dtype))
    return emb + added


def run_block(
    block: Block, h: Tensor, emb: Tensor, context: Tensor, options: Options, above: Tensor | None = None
) -> Tensor:
    """h after a block. above: the skip that comes next, in whose size a change of size on the way up ends."""
    if block.first is not None:
        h = block.first(h)
    if block.resnet is not None:
        h = block.resnet(h, emb)
    if block.transformer is not None:
        h = transformer.run(block.transformer, h, context, options)
        options["transformer_index"] += 1
    if block.down is not None:
        h = block.down(h)
    if block.up is not None:
        if above is None:
            raise ModelFileError("the network goes up further than it went down")
        h = block.up(h, above.shape[-2:])
    return h


class _Residuals:
    """What control networks add; the lists of the caller stay as they are."""

    def __init__(self, control: Mapping[str, Sequence[Tensor | None]] | None) -> None:
        self.left = {place: list(residuals) for place, residuals in (control or {}).items()}

    def added(self, place: str, h: Tensor) -> Tensor:
        residuals = self.left.get(place)
        if not residuals:
            return h
        residual = residuals.pop()
        if residual is None:
            return h
        if residual.shape[1:] != h.shape[1:]:
            raise UnfitInput(
                f"a control network gave {tuple(residual.shape)} where the model has {tuple(h.shape)}: it was made for "
                "another family of models"
            )
        return h + residual.to(h)
