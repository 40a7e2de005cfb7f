"""What a sampler is, and the register of all of them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from limner.diffusion.denoiser import Denoiser, Guided
from limner.diffusion.kdiffusion import KnownSampler
from limner.diffusion.noise import Between, Draw
from limner.diffusion.path import EXPLODING, Path

OnStep = Callable[[int, Tensor], None]
"""Called after each step with its number, from 0, and the clean x that was expected there."""

At = Callable[[float], float]
"""The level after a part (0..1) of the whole way down, `Levels.at`."""


def ignore(step: int, clean: Tensor) -> None:
    """An `OnStep` that does nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampler(KnownSampler):
    """A sampler and what a caller must know of it.

    order: how its error falls with the number of steps. skip_next_to_last: it wants a schedule without the last level
    above 0. exploding: its algorithm knows the exploding path only; a walk on another path is carried over to it.
    lowest: where it ends instead of at 0. own_fill: what a mask keeps is covered with noise of its own. on_device: its
    Brownian motion is drawn where x is, not on the CPU.
    """

    name: str
    order: int
    walk: Callable[..., Tensor]
    skip_next_to_last: bool = False
    exploding: bool = False
    lowest: float = 0.0
    own_fill: bool = False
    on_device: bool = False

    def takes(self, name: str) -> bool:
        """Whether the algorithm has a parameter of this name."""
        return name in inspect.signature(self.walk).parameters

    @property
    def random(self) -> bool:
        """Whether it needs noise on its way."""
        parameters = inspect.signature(self.walk).parameters
        return any(name in parameters and parameters[name].default is inspect.Parameter.empty for name in NOISE)

    def tuned(self, **options: Any) -> Sampler:
        """The same sampler with other settings, such as eta=0.5."""
        return replace(self, walk=partial(self.walk, **options))

    def passed(self, sigmas: Tensor) -> Tensor:
        """The levels that it passes when it is asked to pass these."""
        if self.lowest == 0 or len(sigmas) == 0 or sigmas[-1] > 0:
            return sigmas
        return torch.cat([sigmas[:-1], sigmas.new_tensor([self.lowest])])

    def __call__(
        self,
        denoise: Denoiser | Guided,
        x: Tensor,
        sigmas: Tensor,
        *,
        path: Path = EXPLODING,
        draw: Draw | None = None,
        between: Between | None = None,
        at: At | None = None,
        on_step: OnStep = ignore,
    ) -> Tensor:
        """x walked from sigmas[0] to sigmas[-1], or to where `passed` says.

        A random sampler needs `draw` or `between`, one that looks at the answer without guidance a `Guided`.
        """
        if len(sigmas) < 2:
            return x
        sigmas = self.passed(sigmas)
        if self.exploding and path != EXPLODING:
            return self._carried(denoise, x, sigmas, path=path, draw=draw, between=between, at=at, on_step=on_step)
        given = {"path": path, "draw": draw, "between": between, "at": at}
        tuned = getattr(self.walk, "keywords", {})
        wanted = {name: value for name, value in given.items() if self.takes(name) and name not in tuned}
        asked = denoise.both if self.takes("both") else denoise  # type: ignore[union-attr]
        return self.walk(asked, x, sigmas, **wanted, on_step=on_step)

    def _carried(
        self,
        denoise: Denoiser | Guided,
        x: Tensor,
        sigmas: Tensor,
        *,
        path: Path,
        between: Between | None,
        at: At | None,
        **rest: Any,
    ) -> Tensor:
        """The walk of x / kept on the exploding path, whose level is the ratio of noise to picture."""
        sigmas = path.entered(sigmas)

        def carried(y: Tensor, ratio: Tensor) -> Tensor:
            sigma = path.level(ratio)
            return denoise(y * path.kept(sigma), sigma)

        y = self(
            carried,
            x / path.kept(sigmas[0]),
            path.ratio(sigmas),
            between=between and (lambda now, then: between(path.level(now), path.level(then))),
            at=at and (lambda done: float(path.ratio(sigmas.new_tensor(at(done))))),
            **rest,
        )
        return y * path.kept(sigmas[-1])


NOISE = ("draw", "between")

SAMPLERS: dict[str, Sampler] = {}


def sampler(name: str, *, order: int, **facts: Any) -> Callable[[Callable[..., Tensor]], Sampler]:
    """Makes a function a `Sampler` and enters it into `SAMPLERS`. The function's parameters tell what it needs."""

    def enter(walk: Callable[..., Tensor]) -> Sampler:
        return also(Sampler(name=name, order=order, walk=walk, **facts), name)

    return enter


def also(known: Sampler, name: str, **options: Any) -> Sampler:
    """Enters a sampler under another name, with other facts or settings."""
    facts = {key: options.pop(key) for key in list(options) if key in Sampler.__dataclass_fields__}
    SAMPLERS[name] = replace(known.tuned(**options) if options else known, name=name, **facts)
    return SAMPLERS[name]


def towards(clean: Tensor, x: Tensor, now: Tensor, then: Tensor) -> Tensor:
    """x brought from level `now` to `then` as if `clean` were right all the way."""
    return clean + (x - clean) * (then / now)
