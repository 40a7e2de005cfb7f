"""answers(): what a model expects under each side's conditionings, in as few calls as fit into memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from limner.diffusion.conds import Area, Cond
from limner.models import wrappers
from limner.models.model import BaseModel, Options
from limner.models.sampling.areas import part_of, weight
from limner.models.sampling.room import fits

HARDLY_ANY = 1e-37
"""The weight of nothing, where no conditioning counts: the answer there is 0."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Question:
    """One conditioning's question: its part of x, what the network is given, and how much its answer counts."""

    side: int
    x: Tensor
    weight: Tensor
    area: Area | None
    given: dict[str, Cond]
    control: Any
    gligen: Any
    uuid: Any

    def joins(self, other: Question) -> bool:
        """Whether one call can serve both."""
        return (
            self.x.shape == other.x.shape
            and self.control is other.control
            and self.gligen is None
            and other.gligen is None
            and self.given.keys() == other.given.keys()
            and all(cond.joins(other.given[name]) for name, cond in self.given.items())
        )


def answers(
    base: BaseModel,
    sides: Sequence[Sequence[Mapping[str, Any]] | None],
    x: Tensor,
    sigma: Tensor,
    options: Options,
) -> list[Tensor]:
    """The clean x that is expected under each side, (B, C, ...); zeros for a side that is None or does not count now.

    sides: prepared conditionings. Several on one side are added up by their weights. x: (B, C, ...). sigma: (B,).
    options: `model_options`.
    """
    asked = wrappers.around(wrappers.CALC_COND_BATCH, _answers, base, options.get("transformer_options", {}))
    found: list[Tensor] = asked(base, sides, x, sigma, options)
    return found


def _answers(
    base: BaseModel,
    sides: Sequence[Sequence[Mapping[str, Any]] | None],
    x: Tensor,
    sigma: Tensor,
    options: Options,
) -> list[Tensor]:
    sums = [torch.zeros_like(x) for _ in sides]
    weights = [torch.full_like(x[:, :1], HARDLY_ANY) for _ in sides]
    waiting = [
        part for side, conds in enumerate(sides) for cond in conds or () if (part := question(cond, side, x, sigma))
    ]
    while waiting:
        batch = _batch(base, waiting)
        chosen = {id(part) for part in batch}
        waiting = [part for part in waiting if id(part) not in chosen]
        for part, answer in zip(batch, _ask(base, batch, sigma, options), strict=True):
            part_of(sums[part.side], part.area).add_(answer * part.weight)
            part_of(weights[part.side], part.area).add_(part.weight)
    return [total.div_(each) for total, each in zip(sums, weights, strict=True)]


def question(cond: Mapping[str, Any], side: int, x: Tensor, sigma: Tensor) -> Question | None:
    """What is to be asked under a conditioning; None where it does not count at this level."""
    level = float(sigma[0])
    start, end = cond.get("timestep_start"), cond.get("timestep_end")
    if (start is not None and level > start) or (end is not None and level < end):
        return None
    area: Area | None = cond.get("area")
    seen = part_of(x, area)
    return Question(
        side=side,
        x=seen,
        weight=weight(cond, seen, x),
        area=area,
        given={name: each.placed(len(x), x.device, area) for name, each in cond["model_conds"].items()},
        control=cond.get("control"),
        gligen=cond.get("gligen"),
        uuid=cond.get("uuid"),
    )


def _batch(base: BaseModel, waiting: Sequence[Question]) -> list[Question]:
    """The first part and those that can be asked with it, the last first, as node packs know it; fewer if need be."""
    first = waiting[0]
    together = [part for part in waiting if part is first or first.joins(part)]
    together.reverse()
    while len(together) > 1 and not fits(base, len(together) * len(first.x), first.x.shape[2:]):
        together = together[-(len(together) // 2) :]
    return together


def _ask(base: BaseModel, batch: Sequence[Question], sigma: Tensor, options: Options) -> Sequence[Tensor]:
    first = batch[0]
    x = torch.cat([part.x for part in batch])
    levels = torch.cat([sigma] * len(batch))
    cond_or_uncond = [part.side for part in batch]
    given = {name: cond.joined([part.given[name] for part in batch[1:]]) for name, cond in first.given.items()}
    transformer_options: Options = {
        **options.get("transformer_options", {}),
        "cond_or_uncond": cond_or_uncond,
        "uuids": [part.uuid for part in batch],
        "sigmas": sigma,
    }
    if first.gligen is not None:
        patches = transformer_options.get("patches", {})
        grounded = [*patches.get("middle_patch", ()), _grounding(first.gligen, first.x)]
        transformer_options["patches"] = {**patches, "middle_patch": grounded}
    given["transformer_options"] = transformer_options
    if first.control is not None:
        given["control"] = first.control.get_control(x, levels, given, len(batch), transformer_options)
    wrapper = options.get("model_function_wrapper")
    if wrapper is not None:
        asked = {"input": x, "timestep": levels, "c": given, "cond_or_uncond": cond_or_uncond}
        answer: Tensor = wrapper(base.apply_model, asked)
    else:
        answer = base.apply_model(x, levels, **given)
    return answer.float().chunk(len(batch))


def _grounding(gligen: Sequence[Any], x: Tensor) -> Any:
    kind, model, *facts = gligen
    if kind == "position":
        return model.model.set_position(x.shape, facts[0], x.device)
    return model.model.set_empty(x.shape, x.device)
