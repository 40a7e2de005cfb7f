"""Merges: weights of one model mixed into another's, as patches, so that neither is copied."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from limner.errors import UnfitInput
from limner.models.lora.names import shape_of
from limner.models.patcher import Patcher
from limner.models.patches import WeightPatch, patched

NOT_MERGED = (".position_ids", ".logit_scale")
"""Parts of text encoders that are numbers of places, or of training: they stay as they are."""

Ratio = tuple[float, float]
"""How much of the other's weight is added, and what the own one is multiplied by before."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Other(WeightPatch):
    """A weight of another model, with the patches that it had when it was merged."""

    owner: Patcher
    key: str
    patches: tuple[WeightPatch, ...]

    def change(self, weight: Tensor) -> Tensor:
        return patched(self.owner.weight(self.key).to(weight), self.patches)


def merge(
    into: Patcher,
    other: Patcher,
    ratio: Callable[[str], Ratio],
    *,
    names: tuple[str, str],
    warn: Callable[[str], None],
) -> None:
    """Mixes the other's weights into those of `into`, which is the caller's own clone.

    ratio: for each original key. names: of both, for faults. Weights that only one has, or of another shape, stay as
    they are, which `warn` is told. Raises UnfitInput where most of them do not fit: they are of other families.
    """
    shared = [key for key in into.keys if key in other.keys and not key.endswith(NOT_MERGED)]
    fitting = [
        key for key in shared if shape_of(into.module, into.keys, key) == shape_of(other.module, other.keys, key)
    ]
    count = sum(1 for key in into.keys if not key.endswith(NOT_MERGED))
    if 2 * len(fitting) < count:
        raise UnfitInput(
            f"{names[0]} and {names[1]} cannot be merged: only {len(fitting)} of {count} weights have the same name "
            "and shape in both; models of one family can be merged"
        )
    if len(fitting) < count:
        left = next(key for key in into.keys if key not in set(fitting) and not key.endswith(NOT_MERGED))
        warn(f"{count - len(fitting)} weights of {names[0]} have no like in {names[1]} and stay as they are ({left})")
    patches: dict[str, WeightPatch] = {}
    for key in fitting:
        added, kept = ratio(key)
        patches[key] = Other(
            owner=other, key=key, patches=other.patches.get(key, ()), strength=added, strength_model=kept
        )
    into.add_weight_patches(patches)
