"""How the answers to the positive and the negative are joined, with the hooks that node packs know."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from limner.models.model import BaseModel, Options
from limner.models.sampling.sides import answers

Conds = Sequence[Mapping[str, Any]]


def guided(
    base: BaseModel,
    x: Tensor,
    sigma: Tensor,
    negative: Conds | None,
    positive: Conds | None,
    scale: float,
    options: Options,
) -> Tensor:
    """The clean x that guidance leads to. Ho and Salimans 2022, arXiv:2207.12598, with scale = 1 + w.

    x: (B, C, ...). sigma: (B,). At scale 1 the negative is not asked, unless `disable_cfg1_optimization` is set.
    options: `model_options`; `sampler_calc_cond_batch_function` asks in place of `answers`, each of
    `sampler_pre_cfg_function` changes the list of answers before they are joined.
    """
    asked = None if math.isclose(scale, 1.0) and not options.get("disable_cfg1_optimization") else negative
    sides = [positive, asked]
    told = {"input": x, "sigma": sigma, "model": base, "model_options": options}
    if "sampler_calc_cond_batch_function" in options:
        found = options["sampler_calc_cond_batch_function"]({"conds": sides, **told})
    else:
        found = answers(base, sides, x, sigma, options)
    for change in options.get("sampler_pre_cfg_function", ()):
        found = change({"conds": sides, "conds_out": found, "cond_scale": scale, "timestep": sigma, **told})
    return joined(base, found[0], found[1], scale, x, sigma, options, positive=positive, negative=asked)


def joined(
    base: BaseModel,
    wanted: Tensor,
    unwanted: Tensor,
    scale: float,
    x: Tensor,
    sigma: Tensor,
    options: Options,
    *,
    positive: Conds | None = None,
    negative: Conds | None = None,
) -> Tensor:
    """`unwanted` and `scale` times the way from there to `wanted`.

    options: `sampler_cfg_function` joins in place of that: it is told what x loses under either (`cond`, `uncond`) and
    says what x loses under both. Each of `sampler_post_cfg_function` changes what came out.
    """
    told = {
        "cond_scale": scale,
        "input": x,
        "sigma": sigma,
        "cond_denoised": wanted,
        "uncond_denoised": unwanted,
        "model": base,
        "model_options": options,
    }
    if "sampler_cfg_function" in options:
        removed = {"cond": x - wanted, "uncond": x - unwanted, "timestep": sigma}
        sides = {"input_cond": positive, "input_uncond": negative}
        clean: Tensor = x - options["sampler_cfg_function"]({**told, **removed, **sides})
    else:
        clean = unwanted + (wanted - unwanted) * scale
    for change in options.get("sampler_post_cfg_function", ()):
        clean = change({**told, "denoised": clean, "cond": positive, "uncond": negative})
    return clean
