"""What one side's conditionings ask of the other side's: the same areas, the same control networks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from limner.models.sampling.areas import inside, size

Prepared = dict[str, Any]


def complete(sides: dict[str, list[Prepared]]) -> None:
    """Gives each area a counterpart on every other side, made of the conditioning that surrounds it most closely.

    So the negative is subtracted within an area of the positive as it is elsewhere. In place.
    """
    for side, conds in sides.items():
        for cond in list(conds):
            for other, theirs in sides.items():
                if other != side and cond.get("area") is not None:
                    _add_counterpart(cond, theirs)


def _add_counterpart(cond: Prepared, theirs: list[Prepared]) -> None:
    around = [each for each in theirs if each.get("area") is None or inside(cond["area"], each["area"])]
    if not around:
        return
    areas = [each for each in around if each.get("area") is not None]
    nearest = min(areas, key=lambda each: size(each["area"])) if areas else around[0]
    if nearest.get("area") != cond["area"]:
        theirs.append({**cond, "model_conds": dict(nearest["model_conds"])})


def share(from_side: Sequence[Prepared], side: list[Prepared], name: str) -> None:
    """Applies what conditionings of the whole latent have under this name to those of another side. In place.

    Nothing where that side has something of its own. Several are spread over its conditionings; where there are more of
    them than conditionings, these are doubled.
    """
    whole = [each for each in side if each.get("area") is None]
    given = [each[name] for each in from_side if each.get("area") is None and each.get(name) is not None]
    if not whole or any(each.get(name) is not None for each in whole):
        return
    for number, what in enumerate(given):
        target = whole[number % len(whole)]
        if number < len(whole):
            side[next(place for place, each in enumerate(side) if each is target)] = {**target, name: what}
        else:
            side.append({**target, name: what})
