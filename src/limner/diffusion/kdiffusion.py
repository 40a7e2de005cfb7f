"""Samplers under the call that k-diffusion made common, which node packs use and write: sample(model, x, sigmas, ...).

model: (x, level of each item, **extra_args) to the clean x. callback: told a dict of x, i, sigma, sigma_hat, denoised.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from limner.diffusion.foreign import adapted
from limner.diffusion.levels import Levels
from limner.diffusion.noise import Between, Bridge, Draw, stream
from limner.diffusion.path import EXPLODING
from limner.errors import UnfitInput

if TYPE_CHECKING:
    from limner.diffusion.denoiser import Prediction

Options = dict[str, Any]

RENAMED = {"s_noise": "noise_scale", "max_order": "order"}
"""What k-diffusion calls some settings, and what they are called here."""

WITHOUT_CHURN = {"s_churn", "s_tmin", "s_tmax", "s_noise"}
"""Settings of noise that is added before a step, which change nothing where there is none of it (s_churn 0)."""


class Walker(Protocol):
    """What is asked here of a sampler of Limner's (samplers/base.py tells more)."""

    @property
    def name(self) -> str: ...
    @property
    def walk(self) -> Callable[..., Tensor]: ...
    @property
    def on_device(self) -> bool: ...
    def takes(self, name: str, /) -> bool: ...
    def passed(self, sigmas: Tensor, /) -> Tensor: ...
    def tuned(self, **options: Any) -> Walker: ...
    def __call__(self, denoise: Any, x: Tensor, sigmas: Tensor, /, **rest: Any) -> Tensor: ...


class KnownSampler:
    """What packs ask of a sampler."""

    __slots__ = ()

    @property
    def sampler_function(self: Any) -> Callable[..., Tensor]:
        return function(self)

    @property
    def extra_options(self: Any) -> Options:
        """Settings of its own."""
        return dict(getattr(self.walk, "keywords", {}))

    @property
    def inpaint_options(self: Any) -> Options:
        return {"random": True} if self.own_fill else {}

    def max_denoise(self, model_wrap: Any, sigmas: Tensor) -> bool:
        """Whether a walk down these levels begins with noise alone."""
        return begins_at_the_top(model_wrap, sigmas)

    def sample(
        self,
        model_wrap: Any,
        sigmas: Tensor,
        extra_args: Options,
        callback: Callable[..., object] | None,
        noise: Tensor,
        latent_image: Tensor | None = None,
        denoise_mask: Tensor | None = None,
        disable_pbar: bool = False,
    ) -> Tensor:
        """The latent after the walk, all in the network's units. model_wrap: the guider that is asked."""
        return walked(
            self.sampler_function,
            model_wrap,
            sigmas,
            extra_args,
            callback,
            noise,
            latent_image,
            denoise_mask,
            disable_pbar,
            whole=self.max_denoise(model_wrap, sigmas),
            own_fill=bool(self.inpaint_options),
        )


class Inpainting:
    """A guider under a mask, as samplers of packs ask it: what the mask (1 where to paint) leaves out stays."""

    def __init__(self, model: Any, sigmas: Tensor) -> None:
        self.inner_model = model
        self.sigmas = sigmas
        self.latent_image: Tensor = torch.zeros(())
        self.noise: Tensor = torch.zeros(())

    def __call__(
        self,
        x: Tensor,
        sigma: Tensor,
        denoise_mask: Tensor | None = None,
        model_options: Options | None = None,
        seed: int | None = None,
    ) -> Tensor:
        options = model_options or {}
        if denoise_mask is None:
            clean: Tensor = self.inner_model(x, sigma, model_options=options, seed=seed)
            return clean
        if "denoise_mask_function" in options:
            told = {"model": self.inner_model, "sigmas": self.sigmas}
            denoise_mask = options["denoise_mask_function"](sigma, denoise_mask, extra_options=told)
        kept = 1 - denoise_mask
        level = sigma.reshape(sigma.shape[:1] + (1,) * (x.ndim - 1))
        covered = prediction_of(self.inner_model).path.noised(self.latent_image, self.noise, level)
        clean = self.inner_model(x * denoise_mask + covered * kept, sigma, model_options=options, seed=seed)
        return clean * denoise_mask + self.latent_image * kept


def walked(
    sample: Callable[..., Tensor],
    guider: Any,
    sigmas: Tensor,
    extra_args: Mapping[str, Any],
    callback: Callable[..., object] | None,
    noise: Tensor,
    latent_image: Tensor | None,
    denoise_mask: Tensor | None,
    disable_pbar: bool,
    *,
    whole: bool,
    own_fill: bool = False,
    options: Mapping[str, Any] | None = None,
    inpainting: Callable[[Any, Tensor], Any] = Inpainting,
) -> Tensor:
    """A walk by such a function, from noise and latent to a latent, all in the network's units.

    whole: it begins with noise alone. own_fill: what a mask keeps is covered with noise of its own. callback: called
    with (step, clean x, x, number of steps).
    """
    own: Walker | None = getattr(sample, "sampler", None)
    if own is not None:
        sigmas = own.passed(sigmas)
    latent = torch.zeros_like(noise) if latent_image is None else latent_image
    asked = inpainting(guider, sigmas)
    asked.latent_image = latent
    asked.noise = noise
    if own_fill:
        seed = extra_args.get("seed") or 0
        generator = torch.Generator().manual_seed((seed + 1) % 2**64)
        asked.noise = torch.randn(noise.shape, generator=generator, dtype=noise.dtype).to(noise.device)
    prediction = prediction_of(guider)
    last = len(sigmas) - 1

    def tell(told: Mapping[str, Any]) -> None:
        if callback is not None:
            callback(told["i"], told["denoised"], told["x"], last)

    end = sample(
        asked,
        prediction.begun(noise, latent, sigmas[0], whole=whole),
        sigmas,
        extra_args={**extra_args, "denoise_mask": denoise_mask},
        callback=tell,
        disable=disable_pbar,
        **(options or {}),
    )
    return prediction.end(end, sigmas[-1])


@cache
def function(sampler: Walker) -> Callable[..., Tensor]:
    """A sampler as such a function; settings are keyword arguments."""

    def sample(
        model: Any,
        x: Tensor,
        sigmas: Tensor,
        extra_args: Options | None = None,
        callback: Callable[[Options], object] | None = None,
        disable: bool | None = None,  # noqa: ARG001 - of a progress bar on a terminal
        noise_sampler: Between | None = None,
        **options: Any,
    ) -> Tensor:
        extra = dict(extra_args or {})
        tuned = sampler.tuned(**settings(sampler, options)) if options else sampler
        prediction = _found_prediction(model)
        asking = _Asking(model, extra, sigmas)

        def on_step(step: int, clean: Tensor) -> None:
            begun, level = asking.step_began(clean)
            if callback is not None:
                callback({"x": begun, "i": step, "sigma": level, "sigma_hat": level, "denoised": clean})

        return tuned(
            asking,
            x,
            sigmas,
            path=EXPLODING if prediction is None else prediction.path,
            draw=_draw(noise_sampler, extra, x, asking),
            between=noise_sampler or (_bridge(tuned, extra, x, sigmas) if tuned.takes("between") else None),
            at=(Levels(sigmas[sigmas > 0].flip(0).cpu()) if prediction is None else prediction.levels).at,
            on_step=on_step,
        )

    sample.__name__ = sample.__qualname__ = f"sample_{sampler.name}"
    sample.__doc__ = sampler.walk.__doc__
    sample.sampler = sampler  # type: ignore[attr-defined]
    return sample


def settings(sampler: Walker, options: Mapping[str, Any]) -> Options:
    """k-diffusion's settings as those of a sampler here. Raises UnfitInput for one that it does not have."""
    named: Options = {}
    for name, value in options.items():
        own = RENAMED.get(name, name)
        if name == "solver_type" and sampler.takes("heun"):
            named["heun"] = value == "heun"
        elif sampler.takes(own):
            named[own] = value
        elif name not in WITHOUT_CHURN or options.get("s_churn", 0.0):
            raise UnfitInput(f"the sampler {sampler.name} has no setting {name!r}")
    return named


def prediction_of(model: Any) -> Prediction:
    """What the network behind a guider predicts. Raises UnfitInput where there is no network behind it."""
    found = _found_prediction(model)
    if found is None:
        raise UnfitInput(f"a {type(model).__name__} has no model_sampling; a guider is wanted here")
    return found


def begins_at_the_top(model: Any, sigmas: Tensor) -> bool:
    """Whether the first level is the highest that the network knows, or above."""
    high, first = prediction_of(model).levels.high, float(sigmas[0])
    return first > high or abs(first - high) <= 1e-5 * max(abs(first), abs(high))


def _found_prediction(model: Any) -> Prediction | None:
    seen = model
    for _ in range(4):
        if hasattr(seen, "model_sampling"):
            return adapted(seen.model_sampling)
        seen = getattr(seen, "inner_model", None)
    return None


def _draw(noise_sampler: Between | None, extra: Mapping[str, Any], x: Tensor, asking: _Asking) -> Draw:
    if noise_sampler is not None:
        return lambda: noise_sampler(*asking.step())
    return stream(_seed(extra), x)


def _bridge(sampler: Walker, extra: Mapping[str, Any], x: Tensor, sigmas: Tensor) -> Between:
    levels = sigmas[sigmas > 0]
    like = x if sampler.on_device else x.cpu()
    bridge = Bridge(seed=_seed(extra), like=like, low=float(levels.min()), high=float(levels.max()))
    return lambda now, then: bridge(now, then).to(x.device)


def _seed(extra: Mapping[str, Any]) -> int:
    seed = extra.get("seed")
    return int(torch.randint(2**62, ())) if seed is None else int(seed)


@dataclass(slots=True, eq=False)
class _Asking:
    """The model as Limner's samplers ask it."""

    model: Any
    extra: Options
    sigmas: Tensor
    _first: tuple[Tensor, Tensor] | None = field(default=None, init=False)

    def __call__(self, x: Tensor, sigma: Tensor) -> Tensor:
        return self._ask(x, sigma, self.extra)

    def both(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """The answer, and that to the negative; where there is none, that to the positive."""
        seen: list[Tensor] = []

        def look(told: Options) -> Tensor:
            seen.append(told["cond_denoised" if told["uncond"] is None else "uncond_denoised"])
            clean: Tensor = told["denoised"]
            return clean

        options = self.extra.get("model_options", {})
        after = [*options.get("sampler_post_cfg_function", ()), look]
        options = {**options, "sampler_post_cfg_function": after, "disable_cfg1_optimization": True}
        clean = self._ask(x, sigma, {**self.extra, "model_options": options})
        if not seen:
            raise UnfitInput("this sampler (CFG++) needs the answer to the negative, which this guider does not tell")
        return clean, seen[-1]

    def step(self) -> tuple[Tensor, Tensor]:
        """The level at which this step began, and the next one of the schedule."""
        now = self.sigmas[0] if self._first is None else self._first[1]
        below = self.sigmas[self.sigmas < now]
        return now, below[0] if len(below) else now

    def step_began(self, clean: Tensor) -> tuple[Tensor, Tensor]:
        """x and the level with which the step began that ends now."""
        began, self._first = self._first, None
        return began or (clean, self.sigmas[0])

    def _ask(self, x: Tensor, sigma: Tensor, extra: Options) -> Tensor:
        if self._first is None:
            self._first = (x, sigma)
        answer: Tensor = self.model(x, sigma.reshape(-1).expand(len(x)), **extra)
        return answer
