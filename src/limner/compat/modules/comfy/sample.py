"""Noise and walks, as packs call them. Functions are looked up when they are called: packs replace some."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from limner.compat.modules.comfy import samplers
from limner.compat.modules.comfy.sampler_helpers import cleanup_additional_models as cleanup_additional_models
from limner.diffusion import noise as _noise

__all__ = ["cleanup_additional_models", "np"]


def prepare_noise(latent_image: Tensor, seed: int, noise_inds: Sequence[int] | None = None) -> Tensor:
    """Noise of a latent's shape, on the CPU. noise_inds: which draw each item of the batch gets."""
    places = None if noise_inds is None else [int(place) for place in noise_inds]
    return _noise.initial(seed, latent_image.cpu(), places)


def fix_empty_latent_channels(model: Any, latent_image: Tensor) -> Tensor:
    """An empty latent with the channels and dimensions of the model's. Raises UnfitInput for another's full one."""
    fitted: Tensor = model.get_model_object("latent_format").fit(latent_image)
    return fitted


def sample(
    model: Any,
    noise: Tensor,
    steps: int,
    cfg: float,
    sampler_name: str,
    scheduler: str,
    positive: Any,
    negative: Any,
    latent_image: Tensor,
    denoise: float = 1.0,
    disable_noise: bool = False,
    start_step: int | None = None,
    last_step: int | None = None,
    force_full_denoise: bool = False,
    noise_mask: Tensor | None = None,
    sigmas: Tensor | None = None,
    callback: Callable[..., object] | None = None,
    disable_pbar: bool = False,
    seed: int | None = None,
) -> Tensor:
    """The latent after a walk, on the CPU."""
    sampler = samplers.KSampler(
        model,
        steps=steps,
        device=model.load_device,
        sampler=sampler_name,
        scheduler=scheduler,
        denoise=denoise,
        model_options=model.model_options,
    )
    return sampler.sample(
        noise,
        positive,
        negative,
        cfg=cfg,
        latent_image=latent_image,
        start_step=start_step,
        last_step=last_step,
        force_full_denoise=force_full_denoise,
        denoise_mask=noise_mask,
        sigmas=sigmas,
        callback=callback,
        disable_pbar=disable_pbar,
        seed=seed,
    ).cpu()


def sample_custom(
    model: Any,
    noise: Tensor,
    cfg: float,
    sampler: Any,
    sigmas: Tensor,
    positive: Any,
    negative: Any,
    latent_image: Tensor,
    noise_mask: Tensor | None = None,
    callback: Callable[..., object] | None = None,
    disable_pbar: bool = False,
    seed: int | None = None,
) -> Tensor:
    """The latent after a walk with a sampler and levels of the caller's, on the CPU."""
    return samplers.sample(
        model,
        noise,
        positive,
        negative,
        cfg,
        model.load_device,
        sampler,
        sigmas,
        model_options=model.model_options,
        latent_image=latent_image,
        denoise_mask=noise_mask,
        callback=callback,
        disable_pbar=disable_pbar,
        seed=seed,
    ).cpu()
