"""ComfyUI's core node classes, each of them Limner's own node, and what packs find beside them."""

from __future__ import annotations

from typing import Any

from limner.compat.core_classes import classes, titles
from limner.compat.modules.comfy import model_management
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


def common_ksampler(
    model: Any,
    seed: int,
    steps: int,
    cfg: float,
    sampler_name: str,
    scheduler: str,
    positive: Any,
    negative: Any,
    latent: dict[str, Any],
    denoise: float = 1.0,
    disable_noise: bool = False,
    start_step: int | None = None,
    last_step: int | None = None,
    force_full_denoise: bool = False,
) -> tuple[dict[str, Any]]:
    """Samples a latent, between two of its steps where these are told. Raises UnfitInput."""
    whole = {"model": model, "steps": steps, "cfg": cfg, "sampler_name": sampler_name, "scheduler": scheduler}
    whole |= {"positive": positive, "negative": negative, "latent_image": latent}
    plain = not disable_noise and start_step is None and last_step is None and not force_full_denoise
    if plain or denoise < 1.0:
        if not plain:
            raise UnfitInput("common_ksampler takes a denoise below 1, or steps to start and end at, but not both")
        return NODE_CLASS_MAPPINGS["KSampler"].run(**whole, seed=seed, denoise=denoise)  # type: ignore[no-any-return]
    return NODE_CLASS_MAPPINGS["KSamplerAdvanced"].run(  # type: ignore[no-any-return]
        **whole,
        noise_seed=seed,
        add_noise="disable" if disable_noise else "enable",
        start_at_step=start_step or 0,
        end_at_step=10000 if last_step is None else last_step,
        return_with_leftover_noise="disable" if force_full_denoise else "enable",
    )
