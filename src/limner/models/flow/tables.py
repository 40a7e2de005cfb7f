"""Key maps from tables: what a transformer's weights are called in the original layout, and where they lie."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from torch import Tensor

from limner.models.keys import KeyMap, Place

PREFIX = "diffusion_model."

Table = Mapping[str, str | Sequence[str]]
"""Original names to the module's. One that ends in a dot stands for all that begins so (`img_in.` for its weight and
its bias); several: the original weight is theirs, one after the other."""


def repeated(table: Table, original: str, own: str, count: int) -> dict[str, str | Sequence[str]]:
    """A table for each of `count` equal blocks, from that of one; their prefixes have `{}` for the number."""
    return {
        original.format(number) + theirs: (
            own.format(number) + ours if isinstance(ours, str) else [own.format(number) + each for each in ours]
        )
        for number in range(count)
        for theirs, ours in table.items()
    }


def key_map(table: Table, weights: Mapping[str, Tensor], swapped: Collection[str] = ()) -> KeyMap:
    """The key map of a module with these weights.

    swapped: own names of weights whose two halves stand in the other order in the original (shift before scale).
    """
    places: dict[str, tuple[Place, ...]] = {}
    for theirs, ours in table.items():
        owned = [ours] if isinstance(ours, str) else ours
        if not theirs.endswith("."):
            places[PREFIX + theirs] = tuple(Place(name) for name in owned)
            continue
        for name in weights:
            if name.startswith(owned[0]):
                end = name.removeprefix(owned[0])
                places[f"{PREFIX}{theirs}{end}"] = tuple(Place(each + end) for each in owned)
    for key, (first, *_) in places.items():
        if first.parameter in swapped:
            rows = len(weights[first.parameter])
            places[key] = (Place(first.parameter, (rows // 2, rows)), Place(first.parameter, (0, rows // 2)))
    return KeyMap(places)
