"""Conditionings and masks for packs that put a walk together themselves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor

from limner.compat.modules.comfy.utils import reshape_mask
from limner.models.sampling.conds import converted, helpers, release


def convert_cond(cond: Sequence[Sequence[Any]]) -> list[dict[str, Any]]:
    """What a CONDITIONING socket carries, a dict each."""
    return converted(cond)


def prepare_mask(noise_mask: Tensor, shape: Sequence[int], device: Any) -> Tensor:
    """A mask as large as a latent, channels included."""
    return reshape_mask(noise_mask, shape).to(device)


def get_additional_models(conds: Mapping[str, Any], dtype: Any) -> tuple[list[Any], int]:
    """The control networks' and other models that conditionings bring, and the bytes they want beside their weights."""
    return helpers(conds), 0


def cleanup_additional_models(models: Iterable[Any]) -> None:
    """Lets models forget what they kept for a walk."""
    for model in models:
        if hasattr(model, "cleanup"):
            model.cleanup()


def cleanup_models(conds: Mapping[str, Any], models: Iterable[Any]) -> None:
    cleanup_additional_models(models)
    release(conds)
