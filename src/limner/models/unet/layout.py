"""Which of diffusers' modules make up each block of the original layout (input 0.., middle 0, output 0..)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One block: a convolution, or a residual network and what looks around after it, or a change of size.

    Networks are diffusers' ResnetBlock2D and Transformer2DModel, each of which may be None.
    """

    first: Any = None
    resnet: Any = None
    transformer: Any = None
    down: Any = None
    up: Any = None


def input_blocks(unet: Any) -> Iterator[Block]:
    """The way down. After each block what it gives is kept for the way up."""
    yield Block(first=unet.conv_in)
    for stage in unet.down_blocks:
        yield from _pairs(stage)
        for down in stage.downsamplers or ():
            yield Block(down=down)


def middle_blocks(unet: Any) -> Iterator[Block]:
    """The parts of the one block at the bottom; none in networks that have no such block."""
    if unet.mid_block is not None:
        first, *others = unet.mid_block.resnets
        yield Block(resnet=first)
        for transformer, resnet in zip(unet.mid_block.attentions, others, strict=True):
            yield Block(transformer=transformer)
            yield Block(resnet=resnet)


def output_blocks(unet: Any) -> Iterator[Block]:
    """The way up. A change of size belongs to the last block of its stage."""
    for stage in unet.up_blocks:
        *others, last = _pairs(stage)
        yield from others
        ups = stage.upsamplers or ()
        yield Block(resnet=last.resnet, transformer=last.transformer, up=next(iter(ups), None))


def _pairs(stage: Any) -> list[Block]:
    transformers = getattr(stage, "attentions", ())
    return [
        Block(resnet=resnet, transformer=transformer)
        for resnet, transformer in zip_longest(stage.resnets, transformers)
    ]
