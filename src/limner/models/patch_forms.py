"""Weight patches from the forms in which node packs write them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from limner.errors import UnfitInput
from limner.models.lora.sums import Decomposed, Generalized, Hadamard, Kronecker, LowRank, Part, Sum
from limner.models.patches import WeightPatch, patched

Offset = tuple[int, int, int]
"""A part of a weight: along which dimension, from where, how much."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Added(WeightPatch):
    """A tensor to add, with as many values as the weight has."""

    difference: Tensor

    def change(self, weight: Tensor) -> Tensor:
        difference = self.difference.to(weight)
        if difference.shape == weight.shape or difference.numel() == weight.numel():
            return difference.reshape(weight.shape)
        raise UnfitInput(
            f"a patch of the shape {tuple(difference.shape)} does not fit a weight of {tuple(weight.shape)}"
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Instead(WeightPatch):
    """Another weight in place of this one."""

    weight: Tensor

    def change(self, weight: Tensor) -> Tensor:
        return self.weight.to(weight).reshape(weight.shape)

    def apply(self, weight: Tensor) -> Tensor:
        return self.change(weight)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Nested(WeightPatch):
    """A weight with patches of its own to add: how packs mix one model into another."""

    weight: Tensor
    patches: tuple[WeightPatch, ...] = ()

    def change(self, weight: Tensor) -> Tensor:
        return patched(self.weight.to(weight), self.patches).reshape(weight.shape)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Within(WeightPatch):
    """A patch for a part of the weight."""

    inner: WeightPatch
    offset: Offset

    def change(self, weight: Tensor) -> Tensor:
        whole = torch.zeros_like(weight)
        part = weight.narrow(*self.offset)
        whole.narrow(*self.offset).copy_(self.inner.change(part))
        return whole

    def apply(self, weight: Tensor) -> Tensor:
        whole = weight.clone()
        whole.narrow(*self.offset).copy_(self.inner.apply(weight.narrow(*self.offset)))
        return whole


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Through(WeightPatch):
    """A patch whose change goes through a function of the pack's."""

    inner: WeightPatch
    function: Callable[[Tensor], Tensor]

    def change(self, weight: Tensor) -> Tensor:
        return self.function(self.inner.change(weight))


def patch_of(
    value: Any,
    strength: float = 1.0,
    strength_model: float = 1.0,
    offset: Offset | None = None,
    function: Callable[[Tensor], Tensor] | None = None,
) -> WeightPatch:
    """The patch that a pack means. Raises UnfitInput for a form that is not known.

    value: a WeightPatch; a tensor, or (tensor,), to add; ("diff", (tensor,)); ("set", (tensor,)); ("lora", (up, down,
    alpha, mid, dora)), and so for loha, lokr and glora; or a list: a weight and its patches, as `get_key_patches` has.
    """
    patch = replace(_form(value), strength=strength, strength_model=strength_model)
    if function is not None:
        patch = Through(inner=patch, function=function, strength=strength, strength_model=strength_model)
    return patch if offset is None else Within(inner=patch, offset=offset)


def listed(patch: Any) -> WeightPatch:
    """One of the patches in such a list: a WeightPatch, or (strength, value, strength_model[, offset[, function]])."""
    if isinstance(patch, WeightPatch):
        return patch
    strength, value, strength_model, *rest = patch
    return patch_of(value, strength, strength_model, *rest)


def weight_of(first: Any) -> Tensor:
    """The weight at the head of such a list, which may stand beside a function that converts it."""
    if isinstance(first, Tensor):
        return first
    weight, convert = first
    converted: Tensor = convert(weight) if callable(convert) else weight
    return converted


def _form(value: Any) -> WeightPatch:
    if isinstance(value, WeightPatch):
        return value
    if isinstance(value, Tensor):
        return Added(difference=value)
    if isinstance(value, list):
        return Nested(weight=weight_of(value[0]), patches=tuple(listed(each) for each in value[1:]))
    if isinstance(value, tuple) and len(value) == 1:
        return Added(difference=value[0])
    if isinstance(value, tuple) and len(value) == 2 and value[0] in FORMS:
        return FORMS[value[0]](list(value[1]))
    if hasattr(value, "weights") and getattr(value, "name", None) in FORMS:
        return FORMS[value.name](list(value.weights))
    kind = value[0] if isinstance(value, tuple) and value else type(value).__name__
    raise UnfitInput(f"a weight patch of the form {kind!r} is not known; known are {', '.join(FORMS)}")


def _lora(parts: list[Any]) -> WeightPatch:
    up, down, alpha, core, lengths, *_ = [*parts, None, None, None, None]
    return _by_length(LowRank(up=up, down=down, core=core, alpha=alpha), lengths)


def _loha(parts: list[Any]) -> WeightPatch:
    a1, b1, alpha, a2, b2, core1, core2, lengths, *_ = [*parts, None, None, None, None]
    return _by_length(Hadamard(a1=a1, b1=b1, a2=a2, b2=b2, core1=core1, core2=core2, alpha=alpha), lengths)


def _lokr(parts: list[Any]) -> WeightPatch:
    small, large, alpha, small_a, small_b, large_a, large_b, core, lengths, *_ = [*parts, None, None, None, None]
    first, second = Part(whole=small, a=small_a, b=small_b), Part(whole=large, a=large_a, b=large_b, core=core)
    return _by_length(Kronecker(small=first, large=second, alpha=alpha), lengths)


def _glora(parts: list[Any]) -> WeightPatch:
    a1, a2, b1, b2, alpha, lengths, *_ = [*parts, None, None]
    return _by_length(Generalized(a1=a1, a2=a2, b1=b1, b2=b2, alpha=alpha), lengths)


def _by_length(change: Sum, lengths: Tensor | None) -> WeightPatch:
    return change if lengths is None else Decomposed(directions=change, lengths=lengths)


FORMS: dict[str, Callable[[Sequence[Any]], WeightPatch]] = {
    "diff": lambda parts: Added(difference=parts[0]),
    "set": lambda parts: Instead(weight=parts[0]),
    "lora": lambda parts: _lora(list(parts)),
    "loha": lambda parts: _loha(list(parts)),
    "lokr": lambda parts: _lokr(list(parts)),
    "glora": lambda parts: _glora(list(parts)),
}
