"""ComfyUI's core node classes, each of them Limner's own node, and what packs find beside them."""

from __future__ import annotations

from typing import Any

import torch

from limner.compat.core_classes import classes, titles
from limner.compat.modules import latent_preview
from limner.compat.modules.comfy import model_management, sample, samplers
from limner.errors import UnfitInput

MAX_RESOLUTION = 16384

NODE_CLASS_MAPPINGS: dict[str, Any] = dict(classes())
NODE_DISPLAY_NAME_MAPPINGS: dict[str, str] = titles(NODE_CLASS_MAPPINGS)
EXTENSION_WEB_DIRS: dict[str, str] = {}
LOADED_MODULE_DIRS: dict[str, str] = {}

globals().update({name: each for name, each in classes().items() if each.kind.spec.python_module == "nodes"})


def before_node_execution() -> None:
    """Raises where the run was asked to stop."""
    model_management.throw_exception_if_processing_interrupted()


def interrupt_processing(value: bool = True) -> None:
    """Stops the run that goes on, as soon as something looks."""
    model_management.interrupt_current_processing(value)


class KSamplerAdvanced(classes()["KSamplerAdvanced"]):  # type: ignore[misc]
    """Packs also give it a `denoise`, which the node itself has not."""

    def sample(self, *values: Any, denoise: float = 1.0, **named: Any) -> Any:
        if denoise >= 1.0:
            return self.run(*values, **named)
        order = [each.name for each in self.kind.spec.inputs]
        given = {**dict(zip(order, values, strict=False)), **named}
        return common_ksampler(
            given["model"],
            given["noise_seed"],
            given["steps"],
            given["cfg"],
            given["sampler_name"],
            given["scheduler"],
            given["positive"],
            given["negative"],
            given["latent_image"],
            denoise=denoise,
            disable_noise=given["add_noise"] == "disable",
            start_step=given["start_at_step"],
            last_step=given["end_at_step"],
            force_full_denoise=given["return_with_leftover_noise"] == "disable",
        )


NODE_CLASS_MAPPINGS["KSamplerAdvanced"] = KSamplerAdvanced


def common_ksampler(
    model: Any,
    seed: int,
    steps: int,
    cfg: float,
    sampler_name: str,
    scheduler: str,
    positive: Any,
    negative: Any,
    latent: Any,
    denoise: float = 1.0,
    disable_noise: bool = False,
    start_step: int | None = None,
    last_step: int | None = None,
    force_full_denoise: bool = False,
) -> tuple[Any]:
    """Walks a latent along a schedule, between two of its steps where these are told. Raises UnfitInput.

    By the functions of comfy.sample and comfy.samplers, which packs replace.
    """
    known = samplers.KSampler
    if sampler_name not in known.SAMPLERS or scheduler not in known.SCHEDULERS or steps < 1:
        raise UnfitInput(f"{steps} steps of the sampler {sampler_name!r} on the schedule {scheduler!r} cannot be taken")
    samples = sample.fix_empty_latent_channels(model, latent["samples"])
    places = latent.get("batch_index")
    noise = torch.zeros_like(samples) if disable_noise else sample.prepare_noise(samples, seed, places)
    walked = sample.sample(
        model,
        noise,
        steps,
        cfg,
        sampler_name,
        scheduler,
        positive,
        negative,
        samples,
        denoise=denoise,
        disable_noise=disable_noise,
        start_step=start_step,
        last_step=last_step,
        force_full_denoise=force_full_denoise,
        noise_mask=latent.get("noise_mask"),
        callback=latent_preview.prepare_callback(model, steps),
        seed=seed,
    )
    return ({**latent, "samples": walked},)
