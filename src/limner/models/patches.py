"""Weight patches: changes to single weights that a patched model adds to those it shares with others."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class WeightPatch(ABC):
    """One change to one weight: the weight is multiplied by `strength_model`, then what `change` says is added.

    strength: how much of the change. A negative one takes it away.
    """

    strength: float = 1.0
    strength_model: float = 1.0

    @abstractmethod
    def change(self, weight: Tensor) -> Tensor:
        """What is to be added at strength 1, in the weight's shape, float32 and on its device.

        Raises UnfitInput where it does not fit the weight.
        """

    def apply(self, weight: Tensor) -> Tensor:
        """The patched weight. weight: float32."""
        return weight * self.strength_model + self.change(weight) * self.strength


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Difference(WeightPatch):
    """A tensor to add."""

    difference: Tensor

    def change(self, weight: Tensor) -> Tensor:
        return self.difference.to(weight)


def patched(weight: Tensor, patches: tuple[WeightPatch, ...]) -> Tensor:
    """The weight under its patches, one after the other, in its own dtype."""
    changed = weight.float()
    for patch in patches:
        changed = patch.apply(changed)
    return changed.to(weight.dtype)
