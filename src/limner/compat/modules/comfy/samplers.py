"""Samplers, schedules and guiders as packs call them. All is looked up when it is called, since packs replace it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from limner.compat.modules.comfy.k_diffusion import sampling as k_diffusion_sampling
from limner.compat.modules.comfy.model_patcher import ModelPatcher
from limner.diffusion import kdiffusion, ranges, schedules
from limner.diffusion.conds import Cond
from limner.diffusion.foreign import adapted
from limner.diffusion.samplers import SAMPLERS as _OWN
from limner.diffusion.samplers import Sampler as _OwnSampler
from limner.errors import UnfitInput
from limner.models import sampling as _sampling
from limner.models.sampling import sides as _sides
from limner.models.sampling.conds import prepared

KSamplerX0Inpaint = kdiffusion.Inpainting
CFGGuider = _sampling.CFGGuider

SAMPLER_NAMES = list(_OWN)
KSAMPLER_NAMES = [name for name in SAMPLER_NAMES if name not in ("ddim", "uni_pc", "uni_pc_bh2")]


class SchedulerHandler(NamedTuple):
    """A schedule. use_ms: it takes a model_sampling, else (steps, sigma_min, sigma_max) by name `n`."""

    handler: Callable[..., Tensor]
    use_ms: bool = True


def _schedule(name: str) -> Callable[[Any, int], Tensor]:
    return lambda model_sampling, steps: schedules.SCHEDULES[name](adapted(model_sampling).levels, steps)


SCHEDULER_HANDLERS = {name: SchedulerHandler(_schedule(name)) for name in schedules.SCHEDULES}
SCHEDULER_NAMES = list(SCHEDULER_HANDLERS)

simple_scheduler = _schedule("simple")
ddim_scheduler = _schedule("ddim_uniform")
kl_optimal_schedule = _schedule("kl_optimal")
linear_quadratic_schedule = _schedule("linear_quadratic")


def normal_scheduler(model_sampling: Any, steps: int, sgm: bool = False, floor: bool = False) -> Tensor:
    return _schedule("sgm_uniform" if sgm else "normal")(model_sampling, steps)


def beta_scheduler(model_sampling: Any, steps: int, alpha: float = 0.6, beta: float = 0.6) -> Tensor:
    return ranges.beta(adapted(model_sampling).levels, steps, alpha, beta)


def calculate_sigmas(model_sampling: Any, scheduler_name: str, steps: int) -> Tensor:
    """The levels of a walk of so many steps. Raises UnfitInput for an unknown scheduler."""
    found = SCHEDULER_HANDLERS.get(scheduler_name)
    if found is None:
        raise UnfitInput(f"there is no scheduler {scheduler_name!r}; there are {', '.join(SCHEDULER_HANDLERS)}")
    if found.use_ms:
        return found.handler(model_sampling, steps)
    low, high = float(model_sampling.sigma_min), float(model_sampling.sigma_max)
    return found.handler(n=steps, sigma_min=low, sigma_max=high)


class _EverySampler(type):
    """Limner's own samplers are of these classes too: they answer to the same names."""

    def __instancecheck__(cls, instance: object) -> bool:
        own = cls in (Sampler, KSAMPLER) and isinstance(instance, _OwnSampler)
        return own or super().__instancecheck__(instance)


class Sampler(metaclass=_EverySampler):
    """Base: a subclass walks in `sample`."""

    def sample(self) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no method sample")

    def max_denoise(self, model_wrap: Any, sigmas: Tensor) -> bool:
        """Whether a walk down these levels begins with noise alone."""
        return kdiffusion.begins_at_the_top(model_wrap, sigmas)


class KSAMPLER(Sampler):
    """A function of k-diffusion's call as a sampler. inpaint_options: {"random": True} for noise of its own there."""

    def __init__(
        self,
        sampler_function: Callable[..., Tensor],
        extra_options: Mapping[str, Any] | None = None,
        inpaint_options: Mapping[str, Any] | None = None,
    ) -> None:
        self.sampler_function = sampler_function
        self.extra_options = dict(extra_options or {})
        self.inpaint_options = dict(inpaint_options or {})

    def sample(  # type: ignore[override]
        self,
        model_wrap: Any,
        sigmas: Tensor,
        extra_args: dict[str, Any],
        callback: Callable[..., object] | None,
        noise: Tensor,
        latent_image: Tensor | None = None,
        denoise_mask: Tensor | None = None,
        disable_pbar: bool = False,
    ) -> Tensor:
        return kdiffusion.walked(
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
            own_fill=bool(self.inpaint_options.get("random")),
            options=self.extra_options,
            inpainting=KSamplerX0Inpaint,
        )


def ksampler(
    sampler_name: str,
    extra_options: Mapping[str, Any] | None = None,
    inpaint_options: Mapping[str, Any] | None = None,
) -> KSAMPLER:
    """A sampler by name. Raises UnfitInput where there is none."""
    function = getattr(k_diffusion_sampling, f"sample_{sampler_name}", None)
    if function is None:
        raise UnfitInput(f"there is no sampler {sampler_name!r}; there are {', '.join(SAMPLER_NAMES)}")
    return KSAMPLER(function, extra_options, inpaint_options)


def sampler_object(name: str) -> KSAMPLER:
    """A sampler by name, as sampler nodes use it."""
    own = _OWN.get(name)
    return ksampler(name, inpaint_options=own.inpaint_options if own is not None else None)


def sampling_function(
    model: Any,
    x: Tensor,
    timestep: Tensor,
    uncond: Any,
    cond: Any,
    cond_scale: float,
    model_options: dict[str, Any] | None = None,
    seed: int | None = None,
) -> Tensor:
    """The clean x that guidance leads to, with the hooks of `model_options`."""
    return _sampling.guided(model, x, timestep, uncond, cond, cond_scale, model_options or {})


def cfg_function(
    model: Any,
    cond_pred: Tensor,
    uncond_pred: Tensor,
    cond_scale: float,
    x: Tensor,
    timestep: Tensor,
    model_options: dict[str, Any] | None = None,
    cond: Any = None,
    uncond: Any = None,
) -> Tensor:
    """Two answers joined by the scale, or by the functions of `model_options`."""
    return _sampling.joined(
        model, cond_pred, uncond_pred, cond_scale, x, timestep, model_options or {}, positive=cond, negative=uncond
    )


def calc_cond_batch(
    model: Any, conds: Sequence[Any], x_in: Tensor, timestep: Tensor, model_options: dict[str, Any]
) -> list[Tensor]:
    """The clean x expected under each of these sides."""
    return _sampling.answers(model, conds, x_in, timestep, model_options)


def process_conds(
    model: Any,
    noise: Tensor,
    conds: Mapping[str, Any],
    device: Any,
    latent_image: Tensor | None = None,
    denoise_mask: Tensor | None = None,
    seed: int | None = None,
    latent_shapes: Any = None,
) -> dict[str, Any]:
    """Conditionings by side made ready for a walk: areas in places, masks fitted, a family's inputs."""
    latent = torch.zeros_like(noise) if latent_image is None else latent_image
    mask = None if denoise_mask is None else denoise_mask.to(device)
    return prepared(model, conds, noise=noise.to(device), latent_image=latent.to(device), denoise_mask=mask, seed=seed)


class CondObj(NamedTuple):
    """One conditioning's question to the network: its part of x, how much the answer counts, what is given."""

    input_x: Tensor
    mult: Tensor
    conditioning: dict[str, Cond]
    area: Any
    control: Any
    patches: Any
    uuid: Any
    hooks: Any = None


cond_obj = CondObj


def get_area_and_mult(conds: Mapping[str, Any], x_in: Tensor, timestep_in: Tensor) -> CondObj | None:
    """What is to be asked under a conditioning; None where it does not count at this level."""
    asked = _sides.question(conds, 0, x_in, timestep_in)
    if asked is None:
        return None
    edges = x_in.shape[2:]
    whole = (*edges, *[0] * len(edges))
    mult = asked.weight.expand(asked.x.shape[0], asked.x.shape[1], *asked.weight.shape[2:])
    return CondObj(asked.x, mult, asked.given, asked.area or whole, asked.control, asked.gligen, asked.uuid)


def cond_equal_size(c1: Mapping[str, Cond], c2: Mapping[str, Cond]) -> bool:
    """Whether one call can serve both."""
    return c1 is c2 or (c1.keys() == c2.keys() and all(each.joins(c2[name]) for name, each in c1.items()))


def can_concat_cond(c1: Any, c2: Any) -> bool:
    """Whether one call of the network can serve both."""
    if c1.input_x.shape != c2.input_x.shape or c1.control is not c2.control or c1.patches is not c2.patches:
        return False
    return cond_equal_size(c1.conditioning, c2.conditioning)


def cond_cat(c_list: Sequence[Mapping[str, Cond]], device: Any = None) -> dict[str, Any]:
    """What the network is given for several conditionings in one call."""
    first, *others = c_list
    made = {name: each.joined([other[name] for other in others]) for name, each in first.items()}
    return {name: each.to(device) if device and hasattr(each, "to") else each for name, each in made.items()}


def sample(
    model: Any,
    noise: Tensor,
    positive: Any,
    negative: Any,
    cfg: float,
    device: Any,
    sampler: Any,
    sigmas: Tensor,
    model_options: dict[str, Any] | None = None,
    latent_image: Tensor | None = None,
    denoise_mask: Tensor | None = None,
    callback: Callable[..., object] | None = None,
    disable_pbar: bool = False,
    seed: int | None = None,
) -> Tensor:
    """The latent after a walk under guidance by `cfg`."""
    guider = CFGGuider(model)
    if model_options:
        guider.model_options = model_options
    guider.set_conds(positive, negative)
    guider.set_cfg(cfg)
    latent = torch.zeros_like(noise) if latent_image is None else latent_image
    return guider.sample(noise, latent, sampler, sigmas, denoise_mask, callback, disable_pbar, seed)


class KSampler:
    """A walk with a sampler and a schedule by name."""

    SCHEDULERS = SCHEDULER_NAMES
    SAMPLERS = SAMPLER_NAMES
    DISCARD_PENULTIMATE_SIGMA_SAMPLERS = frozenset(name for name, each in _OWN.items() if each.skip_next_to_last)

    def __init__(
        self,
        model: ModelPatcher,
        steps: int,
        device: Any,
        sampler: str | None = None,
        scheduler: str | None = None,
        denoise: float | None = None,
        model_options: dict[str, Any] | None = None,
    ) -> None:
        self.model = model
        self.device = device
        self.scheduler = scheduler if scheduler in self.SCHEDULERS else self.SCHEDULERS[0]
        self.sampler = sampler if sampler in self.SAMPLERS else self.SAMPLERS[0]
        self.denoise = denoise
        self.model_options = model_options or {}
        self.set_steps(steps, denoise)

    def calculate_sigmas(self, steps: int) -> Tensor:
        """The levels, without the last one above 0 for samplers that step badly from it."""
        discard = self.sampler in self.DISCARD_PENULTIMATE_SIGMA_SAMPLERS
        levels = calculate_sigmas(self.model.get_model_object("model_sampling"), self.scheduler, steps + discard)
        return torch.cat([levels[:-2], levels[-1:]]) if discard else levels

    def set_steps(self, steps: int, denoise: float | None = None) -> None:
        """denoise: the part of the whole schedule to walk, in as many steps."""
        self.steps = steps
        if denoise is None or denoise > 0.9999:
            self.sigmas = self.calculate_sigmas(steps).to(self.device)
        elif denoise <= 0:
            self.sigmas = torch.empty(0)
        else:
            self.sigmas = self.calculate_sigmas(int(steps / denoise)).to(self.device)[-(steps + 1) :]

    def sample(
        self,
        noise: Tensor,
        positive: Any,
        negative: Any,
        cfg: float,
        latent_image: Tensor | None = None,
        start_step: int | None = None,
        last_step: int | None = None,
        force_full_denoise: bool = False,
        denoise_mask: Tensor | None = None,
        sigmas: Tensor | None = None,
        callback: Callable[..., object] | None = None,
        disable_pbar: bool = False,
        seed: int | None = None,
    ) -> Tensor:
        """The latent after the steps from `start_step` up to, and without, `last_step`."""
        levels = self.sigmas if sigmas is None else sigmas
        levels = schedules.section(levels, start_step or 0, last_step, leftover=not force_full_denoise)
        return sample(
            self.model,
            noise,
            positive,
            negative,
            cfg,
            self.device,
            sampler_object(self.sampler),
            levels,
            self.model_options,
            latent_image=latent_image,
            denoise_mask=denoise_mask,
            callback=callback,
            disable_pbar=disable_pbar,
            seed=seed,
        )
