"""Guiders: what GUIDER sockets carry. A guider knows its conditionings, and walks a latent down a schedule."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from limner.diffusion.samplers import Sampler
from limner.diffusion.sampling import Walk, fit_mask
from limner.errors import ModelFileError, UnfitInput
from limner.models import wrappers
from limner.models.model import BaseModel, Model, Options, copied_options
from limner.models.residency import use
from limner.models.sampling.asking import Asked, check_sigmas, checked_scale
from limner.models.sampling.changes import changed
from limner.models.sampling.conds import Prepared, Sides, converted, helpers, prepared, release
from limner.models.sampling.guidance import guided, joined
from limner.models.sampling.sides import answers

Callback = Callable[[int, Tensor, Tensor, int], object]
"""Called after each step with its number, from 0, the clean x expected there, x before it, and how many there are."""

Conditioning = Sequence[Sequence[Any]]


@runtime_checkable
class PackSampler(Protocol):
    """A sampler of a node pack's own, by the names that packs know."""

    def sample(
        self,
        model_wrap: Any,
        sigmas: Tensor,
        extra_args: dict[str, Any],
        callback: Callback | None,
        noise: Tensor,
        latent_image: Tensor,
        denoise_mask: Tensor | None,
        disable_pbar: bool,
    ) -> Tensor:
        """The latent after the walk, in the network's units."""


class CFGGuider:
    """Goes `cfg` times as far from the negative as the positive answer does. The names are those node packs know.

    A subclass sets its conditionings by `inner_set_conds` and says in `predict_noise` what clean x it expects; there it
    finds `conds` (ready for the walk, by what they are for) and `inner_model` (the base model), and may ask `answers`.
    """

    def __init__(self, model_patcher: Model) -> None:
        self.model_patcher = model_patcher
        self.model_options: Options = model_patcher.model_options
        self.original_conds: dict[str, list[Prepared]] = {}
        self.conds: Sides = {}
        self.cfg = 1.0
        self.inner_model: BaseModel = model_patcher.model

    def set_conds(self, positive: Conditioning, negative: Conditioning) -> None:
        self.inner_set_conds({"positive": positive, "negative": negative})

    def set_cfg(self, cfg: float) -> None:
        self.cfg = checked_scale(cfg)

    def inner_set_conds(self, conds: Mapping[str, Conditioning]) -> None:
        """Takes CONDITIONINGs by what they are for. Raises UnfitInput for one with nothing in it."""
        for side, conditioning in conds.items():
            self.original_conds[side] = converted(conditioning)

    def predict_noise(
        self,
        x: Tensor,
        timestep: Tensor,
        model_options: Options | None = None,
        seed: int | None = None,  # noqa: ARG002 - for guiders that draw noise of their own
    ) -> Tensor:
        """The clean x expected behind x (B, C, ...) at level `timestep` (B,)."""
        sides = self.conds
        return guided(
            self.inner_model, x, timestep, sides.get("negative"), sides.get("positive"), self.cfg, model_options or {}
        )

    def __call__(
        self, x: Tensor, timestep: Tensor, model_options: Options | None = None, seed: int | None = None
    ) -> Tensor:
        """`predict_noise`, under the wrappers of packs."""
        told = (model_options or {}).get("transformer_options", {})
        asked = wrappers.around(wrappers.PREDICT_NOISE, self.predict_noise, self, told)
        clean: Tensor = asked(x, timestep, model_options or {}, seed)
        return clean

    def sample(
        self,
        noise: Tensor,
        latent_image: Tensor,
        sampler: Sampler | PackSampler,
        sigmas: Tensor,
        denoise_mask: Tensor | None = None,
        callback: Callback | None = None,
        disable_pbar: bool = False,
        seed: int | None = None,
    ) -> Tensor:
        """The latent after a walk down `sigmas`, on the CPU; with fewer than two of them, the latent as it is.

        noise, latent_image: (B, C, ...) in the VAE's units. denoise_mask: 1 where to paint, any size. sigmas: rising
        ones lead from a picture to noise. seed: of the noise that samplers add. Raises UnfitInput for what does not
        go together, ModelFileError where no numbers come out.
        """
        check_sigmas(sigmas)
        if len(sigmas) < 2:
            return latent_image
        if noise.shape != latent_image.shape:
            raise UnfitInput(f"the noise has the shape {tuple(noise.shape)}, the latent {tuple(latent_image.shape)}")
        if not latent_image.isfinite().all():
            raise UnfitInput("the latent that came in has values that are no numbers (NaN)")
        if seed is None:
            seed = int(torch.randint(2**62, ()))
        options = self.model_options
        self.model_options = self._with_wrappers()
        told = self.model_options.get("transformer_options", {})
        asked = wrappers.around(wrappers.OUTER_SAMPLE, self.outer_sample, self, told)
        try:
            samples: Tensor = asked(noise, latent_image, sampler, sigmas, denoise_mask, callback, disable_pbar, seed)
        finally:
            self.model_options = options
        if not samples.isfinite().all():
            raise ModelFileError(
                f"{self.model_patcher.name} gave values that are no numbers (NaN); its weights may be damaged, or the "
                "sampler and the schedule may not go together"
            )
        return samples.clone()  # what inference mode makes cannot be changed outside of it

    def outer_sample(
        self,
        noise: Tensor,
        latent_image: Tensor,
        sampler: Sampler | PackSampler,
        sigmas: Tensor,
        denoise_mask: Tensor | None = None,
        callback: Callback | None = None,
        disable_pbar: bool = False,
        seed: int | None = None,
    ) -> Tensor:
        """The same, on the CPU, with the model in its place for as long as it takes."""
        self.conds = {side: [dict(cond) for cond in conds] for side, conds in self.original_conds.items()}
        patcher = self.model_patcher
        device = patcher.load_device
        try:
            with (
                torch.inference_mode(),
                use(patcher, *helpers(self.conds), *patcher.beside()),
                changed(patcher) as self.inner_model,
                patcher.walking(device),
            ):
                return self.inner_sample(
                    noise.to(device, torch.float32),
                    latent_image.to(device, torch.float32),
                    device,
                    sampler,
                    sigmas.to(device, torch.float32),
                    denoise_mask,
                    callback,
                    disable_pbar,
                    seed,
                ).cpu()
        finally:
            release(self.conds)
            self.conds = {}
            self.inner_model = patcher.model

    def inner_sample(
        self,
        noise: Tensor,
        latent_image: Tensor,
        device: torch.device,
        sampler: Sampler | PackSampler,
        sigmas: Tensor,
        denoise_mask: Tensor | None,
        callback: Callback | None,
        disable_pbar: bool,
        seed: int | None,
    ) -> Tensor:
        """The walk, with everything on the device. An empty latent stays empty, whatever the space's middle is."""
        base = self.inner_model
        latents = base.latent_format
        x = latents.into_network(latent_image) if latent_image.count_nonzero() > 0 else latent_image
        mask = None if denoise_mask is None else fit_mask(denoise_mask.to(device), x)
        self.conds = prepared(base, self.conds, noise=noise, latent_image=x, denoise_mask=mask, seed=seed)
        options = copied_options(self.model_options)
        options.setdefault("transformer_options", {})["sample_sigmas"] = sigmas
        told = {"model_options": options, "seed": seed}
        around = wrappers.of_kind(wrappers.SAMPLER_SAMPLE, options["transformer_options"])
        if isinstance(sampler, Sampler) and not around:
            walk = Walk(
                prediction=base.model_sampling,
                sampler=sampler,
                sigmas=sigmas,
                seed=seed or 0,
                noise=noise,
                mask=mask,
                mask_at=self._mask_at(options, sigmas),
            )
            asked = Asked(self, options, seed or 0)
            last = len(sigmas) - 1

            def on_step(step: int, clean: Tensor) -> None:
                if callback is not None:
                    callback(step, clean, asked.taken(clean), last)

            samples = walk.run(asked, x, on_step=on_step)
        else:
            walked = wrappers.Executor(sampler.sample, sampler, around).execute
            samples = walked(self, sigmas, told, callback, noise, x, mask, disable_pbar)
        return latents.out_of_network(samples.float())

    def _with_wrappers(self) -> Options:
        """The options, in a copy, with the wrappers of the model among them."""
        options: Options = copied_options(self.model_options)
        told = options.setdefault("transformer_options", {})
        named = wrappers.joined(self.model_patcher.wrappers, told.get("wrappers", {}))
        if named:
            told["wrappers"] = named
        return options

    def _mask_at(self, options: Options, sigmas: Tensor) -> Callable[[Tensor, Tensor], Tensor] | None:
        function = options.get("denoise_mask_function")
        if function is None:
            return None
        told = {"model": self, "sigmas": sigmas}
        return lambda sigma, mask: function(sigma.expand(len(mask)), mask, extra_options=told)


class BasicGuider(CFGGuider):
    """Has one conditioning and no other side, for models that need no guidance."""

    def set_conds(self, positive: Conditioning) -> None:  # type: ignore[override]
        self.inner_set_conds({"positive": positive})


class DualCFGGuider(CFGGuider):
    """Goes from the negative towards a middle, and from the middle towards the positive, each by its own scale.

    Brooks et al. 2023 (InstructPix2Pix), arXiv:2211.09800, section 3.2.1. nested: the way from the negative leads to
    where the middle and the positive lead together.
    """

    cfg1 = 1.0
    cfg2 = 1.0
    nested = False

    def set_cfg(self, cfg1: float, cfg2: float, nested: bool = False) -> None:  # type: ignore[override]
        self.cfg1, self.cfg2, self.nested = checked_scale(cfg1), checked_scale(cfg2), nested

    def set_conds(self, positive: Conditioning, middle: Conditioning, negative: Conditioning) -> None:  # type: ignore[override]
        away = [(text, {**extras, "prompt_type": "negative"}) for text, extras in middle]
        self.inner_set_conds({"positive": positive, "middle": away, "negative": negative})

    def predict_noise(
        self,
        x: Tensor,
        timestep: Tensor,
        model_options: Options | None = None,
        seed: int | None = None,  # noqa: ARG002
    ) -> Tensor:
        options = model_options or {}
        negative, middle, positive = (self.conds[side] for side in ("negative", "middle", "positive"))
        plain = not self.nested and not options.get("disable_cfg1_optimization")
        skip_negative = plain and math.isclose(self.cfg2, 1.0)
        skip_middle = skip_negative and math.isclose(self.cfg1, 1.0)
        sides = [None if skip_negative else negative, None if skip_middle else middle, positive]
        base = self.inner_model
        away, between, towards = answers(base, sides, x, timestep, options)
        if self.nested:
            both = joined(base, towards, between, self.cfg1, x, timestep, options, positive=positive, negative=middle)
            return away + (both - away) * self.cfg2
        first = joined(base, between, away, self.cfg2, x, timestep, options, positive=sides[1], negative=sides[0])
        return first + (towards - between) * self.cfg1
