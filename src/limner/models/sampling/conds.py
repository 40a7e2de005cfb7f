"""Conditionings as a walk needs them: areas in places, fitted masks, ranges in sigmas, the inputs of a family."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from limner.errors import UnfitInput
from limner.models.model import BaseModel
from limner.models.sampling.areas import placed_area, placed_mask
from limner.models.sampling.matching import complete, share

Prepared = dict[str, Any]
"""A conditioning in one dict, by the names that node packs know: its extras, and

cross_attn: the encoded text. model_conds: what the family's network is given (`Cond`), by name. area: in places. mask:
(B, h, w). timestep_start, timestep_end: the levels between which it counts. uuid: its own.
"""

Sides = dict[str, list[Prepared]]
"""Prepared conditionings by what they are for: `positive`, `negative`, ..."""


def converted(conditioning: Sequence[Sequence[Any]]) -> list[Prepared]:
    """What a CONDITIONING socket carries, a dict each. Raises UnfitInput where there is nothing in it."""
    if not conditioning:
        raise UnfitInput("the conditioning is empty: encode a prompt, be it an empty one")
    return [_converted(*each) for each in conditioning]


def _converted(text: Tensor | None, extras: Mapping[str, Any]) -> Prepared:
    made = {**extras, "model_conds": dict(extras.get("model_conds", {})), "uuid": uuid.uuid4()}
    return made if text is None else {**made, "cross_attn": text}


def prepared(
    base: BaseModel,
    sides: Mapping[str, Sequence[Prepared]],
    *,
    noise: Tensor,
    latent_image: Tensor,
    denoise_mask: Tensor | None = None,
    seed: int | None = None,
) -> Sides:
    """The sides ready for a walk over latents like `noise` (B, C, ...), on its device.

    An area of one side gets a counterpart on every other, and a control network that is asked for without an answer
    for the negative applies there too. Raises UnfitInput for what does not fit the model, the latent or itself.
    """
    edges = noise.shape[2:]
    made: Sides = {}
    for side, conds in sides.items():
        made[side] = []
        for given in conds:
            cond = {**given, "model_conds": dict(given.get("model_conds", {}))}
            _check_numbers(cond)
            if cond.get("area") is not None:
                cond["area"] = placed_area(cond["area"], edges)
            else:
                cond.pop("area", None)
            if cond.get("mask") is not None:
                cond["mask"], bounds = placed_mask(cond["mask"], edges, noise.device)
                if cond.get("set_area_to_bounds"):
                    cond["area"] = bounds
            else:
                cond.pop("mask", None)
            _give_range(base, cond)
            facts = {
                **{key: each for key, each in cond.items() if key != "model_conds"},
                "noise": noise,
                "latent_image": latent_image,
                "denoise_mask": denoise_mask,
                "device": noise.device,
                "prompt_type": cond.get("prompt_type", side),
                "seed": seed,
            }
            cond["model_conds"] |= base.architecture.extra_conds(base, facts)
            made[side].append(cond)
    complete(made)
    for conds in made.values():
        for cond in conds:
            if cond.get("control") is not None:
                cond["control"].pre_run(base, base.model_sampling.levels.at)
    for side, conds in made.items():
        if side != "positive" and "positive" in made:
            applied = [cond for cond in made["positive"] if cond.get("control_apply_to_uncond")]
            share(applied, conds, "control")
            share(made["positive"], conds, "gligen")
    return made


def helpers(sides: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[Any]:
    """The control networks' and other models that these conditionings bring, each once."""
    found: list[Any] = []
    for cond in (cond for conds in sides.values() for cond in conds):
        if cond.get("control") is not None:
            found += cond["control"].get_models()
        if cond.get("gligen") is not None:
            found.append(cond["gligen"][1])
    return list({id(each): each for each in found}.values())


def release(sides: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Lets control networks forget what they kept for the walk."""
    for cond in (cond for conds in sides.values() for cond in conds):
        if cond.get("control") is not None:
            cond["control"].cleanup()


def _give_range(base: BaseModel, cond: Prepared) -> None:
    """The part of the way in which it counts, 0..1 from the top, as levels."""
    levels = base.model_sampling.levels
    for told, level in (("start_percent", "timestep_start"), ("end_percent", "timestep_end")):
        if cond.get(told) is not None:
            cond[level] = levels.at(float(cond[told]))


def _check_numbers(cond: Mapping[str, Any]) -> None:
    text = cond.get("cross_attn")
    if text is not None and not text.isfinite().all():
        raise UnfitInput(
            "the conditioning has values that are no numbers (NaN); the weights of the text encoder may be damaged"
        )
    for name in ("strength", "mask_strength", "start_percent", "end_percent"):
        value = cond.get(name)
        if value is not None and not torch.tensor(float(value)).isfinite():
            raise UnfitInput(f"a conditioning's {name} is {value}, which is no number")
