"""What a network is given beside x and the level, in kinds that know how batches and areas treat them."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from limner.diffusion.conditioning import fit_batch

Area = tuple[int, ...]
"""A part of a latent: its edges (h, w) or (frames, h, w), and then where it begins on each, in places."""


@dataclass(frozen=True, slots=True, eq=False)
class Cond(ABC):
    """One thing that a network is given. `joins` and `joined` serve one call for several conditionings."""

    value: Any

    @abstractmethod
    def placed(self, batch: int, device: torch.device, area: Area | None = None) -> Cond:
        """The same for this many items, on this device, and for a part of the latent."""

    @abstractmethod
    def joins(self, other: Cond) -> bool:
        """Whether one call can serve both."""

    @abstractmethod
    def joined(self, others: Sequence[Cond]) -> Any:
        """What the network is given for this one and the others together."""

    @property
    def cond(self) -> Any:
        """The value, and the questions below, by the names that node packs know."""
        return self.value

    def process_cond(self, batch_size: int, device: Any = None, area: Area | None = None, **_: Any) -> Cond:
        where = device or getattr(self.value, "device", torch.device("cpu"))
        return self.placed(batch_size, where, area)

    def can_concat(self, other: Cond) -> bool:
        return self.joins(other)

    def concat(self, others: Sequence[Cond]) -> Any:
        return self.joined(others)


@dataclass(frozen=True, slots=True, eq=False)
class Regular(Cond):
    """A tensor with an item per picture, (B or 1, ...), such as pooled vectors and sizes."""

    value: Tensor

    def placed(self, batch: int, device: torch.device, area: Area | None = None) -> Regular:  # noqa: ARG002
        return Regular(fit_batch(self.value, batch).to(device))

    def joins(self, other: Cond) -> bool:
        return type(other) is type(self) and other.value.shape == self.value.shape

    def joined(self, others: Sequence[Cond]) -> Tensor:
        return torch.cat([self.value, *(each.value for each in others)])


@dataclass(frozen=True, slots=True, eq=False)
class NoiseShape(Regular):
    """A tensor laid over the latent, (B or 1, C, h, w): a part of the latent gets its part of it."""

    def placed(self, batch: int, device: torch.device, area: Area | None = None) -> NoiseShape:
        value = self.value
        if area is not None:
            dims = len(area) // 2
            for dim in range(dims):
                length = min(area[dim], value.shape[2 + dim])
                start = max(0, min(area[dims + dim], value.shape[2 + dim] - length))
                value = value.narrow(2 + dim, start, length)
        return NoiseShape(fit_batch(value, batch).to(device))


@dataclass(frozen=True, slots=True, eq=False)
class CrossAttention(Regular):
    """Encoded text, (B or 1, tokens, width). Texts of other lengths join by repetition, which attention does not mind.

    To this many tokens at most: four times the shorter one's.
    """

    def placed(self, batch: int, device: torch.device, area: Area | None = None) -> CrossAttention:  # noqa: ARG002
        return CrossAttention(fit_batch(self.value, batch).to(device))

    def joins(self, other: Cond) -> bool:
        if type(other) is not type(self):
            return False
        mine, theirs = self.value.shape, other.value.shape
        if mine[0] != theirs[0] or mine[2:] != theirs[2:]:
            return False
        return math.lcm(mine[1], theirs[1]) // min(mine[1], theirs[1]) <= MOST_REPEATS

    def joined(self, others: Sequence[Cond]) -> Tensor:
        texts = [self.value, *(each.value for each in others)]
        tokens = math.lcm(*(text.shape[1] for text in texts))
        return torch.cat([text.repeat(1, tokens // text.shape[1], 1) for text in texts])


MOST_REPEATS = 4


@dataclass(frozen=True, slots=True, eq=False)
class Several(Cond):
    """Tensors of any sizes, (B or 1, ...) each, such as pictures to go by."""

    value: Sequence[Tensor]

    def placed(self, batch: int, device: torch.device, area: Area | None = None) -> Several:  # noqa: ARG002
        return Several([fit_batch(each, batch).to(device) for each in self.value])

    def joins(self, other: Cond) -> bool:
        return type(other) is type(self) and [each.shape for each in self.value] == [each.shape for each in other.value]

    def joined(self, others: Sequence[Cond]) -> list[Tensor]:
        return [torch.cat(each) for each in zip(self.value, *(other.value for other in others), strict=True)]


@dataclass(frozen=True, slots=True, eq=False)
class Constant(Cond):
    """What is the same for every item: a flag, a number, a list of things."""

    def placed(self, batch: int, device: torch.device, area: Area | None = None) -> Constant:  # noqa: ARG002
        return self

    def joins(self, other: Cond) -> bool:
        return type(other) is type(self) and bool(other.value == self.value)

    def joined(self, others: Sequence[Cond]) -> Any:  # noqa: ARG002
        return self.value
