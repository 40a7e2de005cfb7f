"""ComfyUI's core node classes, each of them Limner's own node, and what packs find beside them."""

from __future__ import annotations

from typing import Any

from limner.compat.core_classes import classes, titles
from limner.compat.modules.comfy import model_management
from limner.compat.place import here
from limner.diffusion.samplers import SAMPLERS
from limner.diffusion.schedules import section
from limner.engine.context import current
from limner.models.sampling import CFGGuider
from limner.models.sampling.noises import NoNoise, RandomNoise
from limner.nodes.sampling.walking import schedule, walked

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
    """Walks a latent along a schedule, between two of its steps where these are told. Raises UnfitInput."""
    sampler = SAMPLERS[sampler_name]
    guider = CFGGuider(model)
    guider.set_conds(positive, negative)
    guider.set_cfg(cfg)
    levels = schedule(model, scheduler, steps, denoise=denoise, sampler=sampler)
    if start_step is not None or last_step is not None:
        end = steps if last_step is None else last_step
        levels = section(levels, start_step or 0, end, leftover=not force_full_denoise)
    noise = NoNoise(seed) if disable_noise else RandomNoise(seed)
    ctx = here().running() or current()
    return (walked(ctx, guider, noise=noise, sampler=sampler, levels=levels, latent=latent)[0],)
