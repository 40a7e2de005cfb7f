"""UniPC: a predictor and a corrector of one form. Zhao et al. 2023, arXiv:2302.04867."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from torch import Tensor

from limner.diffusion.denoiser import Denoiser
from limner.diffusion.samplers.base import OnStep, also, ignore, sampler


@sampler("uni_pc", order=2, skip_next_to_last=True, lowest=0.001)
def uni_pc(
    denoise: Denoiser, x: Tensor, sigmas: Tensor, *, bh2: bool = False, order: int = 3, on_step: OnStep = ignore
) -> Tensor:
    """Deterministic sampler that corrects each step by what it finds at its end.

    x and sigmas as for `euler`, but all above 0: the method has no step to 0. bh2: which of the paper's two forms of
    B(h), h or e^h - 1. order: how many clean x's it goes by. Zhao et al. 2023, algorithms 5 and 6, for the clean x in
    time -log sigma. The first steps, and the last ones, are of lower order. Calls denoise N times.
    """
    steps, cleans = len(sigmas) - 1, [denoise(x, sigmas[0])]  # the newest first
    for step, then in enumerate(sigmas[1:]):
        used = min(order, step + 1, steps - step)
        levels, known = sigmas[: step + 1].flip(0)[:used].tolist(), cleans[:used]
        ahead = _move(x, levels, known, float(then), bh2)
        on_step(step, cleans[0])
        if step < steps - 1:
            cleans = [denoise(ahead, then), *cleans[: order - 1]]
            ahead = _move(x, levels, known, float(then), bh2, found=cleans[0])
        x = ahead
    return x


also(uni_pc, "uni_pc_bh2", bh2=True)


def _move(
    x: Tensor, levels: Sequence[float], cleans: Sequence[Tensor], then: float, bh2: bool, found: Tensor | None = None
) -> Tensor:
    """x at `then`, from the clean x's at the last levels, the newest first; corrected by the one `found` there."""
    now, clean = levels[0], cleans[0]
    length = math.log(now / then)
    places = [math.log(now / level) / length for level in levels[1:]]
    changes = [(other - clean) / place for other, place in zip(cleans[1:], places, strict=True)]
    if found is not None:
        places.append(1.0)
        changes.append(found - clean)
    x = then / now * x - math.expm1(-length) * clean
    scale = math.expm1(-length) if bh2 else -length
    shares = _shares(places, length, scale) if len(changes) > 1 else [0.5] * len(changes)
    return x - scale * sum((share * change for share, change in zip(shares, changes, strict=True)), x.new_zeros(()))


def _shares(places: Sequence[float], length: float, scale: float) -> list[float]:
    """What part each change has in a step, so that its series agrees with the exact one. Equation 8."""
    powers = [[place**power for place in places] for power in range(len(places))]
    wanted, rest, factorial = [], math.expm1(-length) / -length - 1, 1.0
    for power in range(len(places)):
        wanted.append(rest * factorial / scale)
        factorial *= power + 2
        rest = rest / -length - 1 / factorial
    shares: list[float] = np.linalg.solve(powers, wanted).tolist()
    return shares
