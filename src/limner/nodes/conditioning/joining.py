"""Nodes that make one conditioning out of several, or none out of one."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from torch import Tensor

from limner.errors import UnfitInput
from limner.graph.node import node
from limner.graph.types import Float
from limner.nodes.sockets import Conditioning


@node("ConditioningCombine", display_name="Conditioning (Combine)", category="conditioning")
def combine(*, conditioning_1: Conditioning, conditioning_2: Conditioning) -> Conditioning:
    """Both conditionings side by side: the model is asked under each, and the answers are averaged by strength."""
    return [*conditioning_1, *conditioning_2]


@node("ConditioningConcat", display_name="Conditioning (Concat)", category="conditioning")
def concat(*, conditioning_to: Conditioning, conditioning_from: Conditioning) -> Conditioning:
    """Appends the tokens of the first text in `conditioning_from` to each text of `conditioning_to`."""
    behind = _first(conditioning_from)[0]
    return [(torch.cat([text, _fitting(behind, text)], dim=1), dict(extras)) for text, extras in conditioning_to]


@node("ConditioningAverage", category="conditioning")
def average(
    *,
    conditioning_to: Conditioning,
    conditioning_from: Conditioning,
    conditioning_to_strength: Annotated[float, Float(0, 1, step=0.01)] = 1.0,
) -> Conditioning:
    """Blends each text of `conditioning_to` with the first of `conditioning_from`; at 1 it stays as it is.

    The result has the length of the former: the latter is cut, or filled up with zeros.
    """
    share = conditioning_to_strength
    other, other_extras = _first(conditioning_from)
    other_pooled: Tensor | None = other_extras.get("pooled_output")
    blended: Conditioning = []
    for text, extras in conditioning_to:
        cut = _fitting(other, text)[:, : text.shape[1]]
        filled = torch.cat([cut, cut.new_zeros(len(cut), text.shape[1] - cut.shape[1], cut.shape[2])], dim=1)
        changed = dict(extras)
        pooled: Tensor | None = extras.get("pooled_output", other_pooled)
        if pooled is not None and other_pooled is not None:
            changed["pooled_output"] = pooled * share + other_pooled * (1 - share)
        blended.append((text * share + filled * (1 - share), changed))
    return blended


@node("ConditioningZeroOut", category="advanced/conditioning")
def zero_out(*, conditioning: Conditioning) -> Conditioning:
    """Replaces the encoded text by zeros, which some models understand as no text at all."""
    emptied: Conditioning = []
    for text, extras in conditioning:
        zeros = {
            key: torch.zeros_like(extras[key])
            for key in ("pooled_output", "conditioning_lyrics")
            if isinstance(extras.get(key), Tensor)
        }
        emptied.append((torch.zeros_like(text), {**extras, **zeros}))
    return emptied


def _first(conditioning: Conditioning) -> tuple[Tensor, dict[str, Any]]:
    if not conditioning:
        raise UnfitInput("conditioning_from is empty: encode a prompt, be it an empty one")
    text, extras = conditioning[0]
    return text, extras


def _fitting(other: Tensor, text: Tensor) -> Tensor:
    """The other text with as many items as this one. Raises UnfitInput where they come of unlike encoders."""
    if other.shape[-1] != text.shape[-1]:
        raise UnfitInput(
            f"one text is encoded in vectors of {text.shape[-1]} values, the other in {other.shape[-1]}: use the text "
            "encoder of the same checkpoint for both"
        )
    if len(other) not in (1, len(text)):
        raise UnfitInput(f"one conditioning has {len(text)} items, the other {len(other)}")
    return other.expand(len(text), -1, -1)
