"""How samplers ask a guider, and what is asked of the numbers that come in from outside."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch import Tensor

from limner.errors import UnfitInput
from limner.models.model import Options

Guider = Callable[[Tensor, Tensor, Options, int], Tensor]
"""(x, level of each item, model_options, seed) to the clean x."""


class Asked:
    """A guider as samplers ask it: at one level for the whole batch."""

    def __init__(self, guider: Guider, options: Options, seed: int) -> None:
        self.guider, self.options, self.seed = guider, options, seed
        self._x: Tensor | None = None

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        return self._ask(x, sigma, self.options)

    def both(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """The answer, and that to the negative; where there is no negative, that to the positive."""
        seen: list[Tensor] = []

        def look(told: dict[str, Any]) -> Tensor:
            seen.append(told["cond_denoised" if told["uncond"] is None else "uncond_denoised"])
            clean: Tensor = told["denoised"]
            return clean

        after = [*self.options.get("sampler_post_cfg_function", ()), look]
        options = {**self.options, "sampler_post_cfg_function": after, "disable_cfg1_optimization": True}
        clean = self._ask(x, sigma, options)
        if not seen:
            raise UnfitInput(
                "this sampler (CFG++) needs the answer to the negative, which this guider does not tell; use one whose "
                "name does not end in cfg_pp"
            )
        return clean, seen[-1]

    def taken(self, clean: Tensor) -> Tensor:
        """The x that the step began with; `clean` where nothing was asked."""
        x, self._x = self._x, None
        return clean if x is None else x

    def _ask(self, x: Tensor, sigma: Tensor, options: Options) -> Tensor:
        if self._x is None:
            self._x = x
        return self.guider(x, sigma.reshape(-1).expand(len(x)), options, self.seed)


def checked_scale(scale: float) -> float:
    """A guidance scale. Raises UnfitInput where it is no number."""
    if not math.isfinite(scale):
        raise UnfitInput(f"cfg is {scale}; it must be a number, such as 7")
    return scale


def check_sigmas(sigmas: Tensor) -> None:
    """Raises UnfitInput where these are no levels of noise."""
    if sigmas.ndim != 1:
        raise UnfitInput(f"sigmas are a list of numbers, not of the shape {tuple(sigmas.shape)}")
    if not sigmas.isfinite().all() or bool((sigmas < 0).any()):
        shown = ", ".join(f"{sigma:g}" for sigma in sigmas[:10].tolist())
        raise UnfitInput(
            f"sigmas must be numbers that are not below 0; these are {shown}{', ...' * (len(sigmas) > 10)}"
        )
