"""Wrappers, callbacks and injections: what packs hang on a model around its use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from limner.models import known_model, wrappers
from limner.models.model import copied_options

WrapperExecutor = wrappers.Executor


class WrappersMP:
    """Around what a wrapper is called. Limner refuses PREPARE_SAMPLING, APPLY_HOOKS and so on when they are added."""

    OUTER_SAMPLE = wrappers.OUTER_SAMPLE
    PREPARE_SAMPLING = "prepare_sampling"
    SAMPLER_SAMPLE = wrappers.SAMPLER_SAMPLE
    PREDICT_NOISE = wrappers.PREDICT_NOISE
    CALC_COND_BATCH = wrappers.CALC_COND_BATCH
    APPLY_MODEL = wrappers.APPLY_MODEL
    DIFFUSION_MODEL = wrappers.DIFFUSION_MODEL

    @classmethod
    def init_wrappers(cls) -> dict[str, dict[str | None, list[Any]]]:
        return {kind: {None: []} for kind in wrappers.KINDS}


class CallbacksMP:
    """When a callback is called. Limner refuses those moments that it does not have."""

    ON_CLONE = known_model.ON_CLONE
    ON_LOAD = known_model.ON_LOAD
    ON_DETACH = "on_detach_after"
    ON_CLEANUP = known_model.ON_CLEANUP
    ON_PRE_RUN = known_model.ON_PRE_RUN
    ON_PREPARE_STATE = "on_prepare_state"
    ON_APPLY_HOOKS = "on_apply_hooks"
    ON_REGISTER_ALL_HOOK_PATCHES = "on_register_all_hook_patches"
    ON_INJECT_MODEL = known_model.ON_INJECT_MODEL
    ON_EJECT_MODEL = known_model.ON_EJECT_MODEL

    @classmethod
    def init_callbacks(cls) -> dict[str, dict[str | None, list[Any]]]:
        return {kind: {None: []} for kind in known_model.CALLBACKS}


@dataclass(slots=True)
class PatcherInjection:
    """What is done to a model before a walk, and undone after it. Both are given the model."""

    inject: Callable[[Any], object]
    eject: Callable[[Any], object]


def add_wrapper(
    wrapper_type: str, wrapper: Callable[..., Any], transformer_options: dict[str, Any], is_model_options: bool = False
) -> None:
    add_wrapper_with_key(wrapper_type, None, wrapper, transformer_options, is_model_options)


def add_wrapper_with_key(
    wrapper_type: str,
    key: str | None,
    wrapper: Callable[..., Any],
    transformer_options: dict[str, Any],
    is_model_options: bool = False,
) -> None:
    """Adds a wrapper to options, of a model where told so."""
    options = _told(transformer_options, is_model_options)
    named = options.setdefault("wrappers", {}).setdefault(wrappers.checked(wrapper_type), {})
    named.setdefault(key, []).append(wrapper)


def get_wrappers_with_key(
    wrapper_type: str, key: str | None, transformer_options: dict[str, Any], is_model_options: bool = False
) -> list[Callable[..., Any]]:
    options = _told(transformer_options, is_model_options)
    return list(options.get("wrappers", {}).get(wrapper_type, {}).get(key, ()))


def get_all_wrappers(
    wrapper_type: str, transformer_options: dict[str, Any], is_model_options: bool = False
) -> list[Callable[..., Any]]:
    return wrappers.of_kind(wrapper_type, _told(transformer_options, is_model_options))


def copy_nested_dicts(input_dict: dict[str, Any]) -> dict[str, Any]:
    copied: dict[str, Any] = copied_options(input_dict)
    return copied


def merge_nested_dicts(dict1: Mapping[str, Any], dict2: Mapping[str, Any], copy_dict1: bool = True) -> dict[str, Any]:
    """The second's entries over the first's; dicts are merged, lists joined."""
    made: Any = copied_options(dict1) if copy_dict1 else dict1
    for key, value in dict2.items():
        if isinstance(value, Mapping):
            made[key] = merge_nested_dicts(made.get(key, {}), value, copy_dict1)
        elif isinstance(value, list):
            made[key] = [*made.get(key, []), *value]
        else:
            made[key] = value
    merged: dict[str, Any] = made
    return merged


def _told(options: dict[str, Any], is_model_options: bool) -> dict[str, Any]:
    told: dict[str, Any] = options.setdefault("transformer_options", {}) if is_model_options else options
    return told
