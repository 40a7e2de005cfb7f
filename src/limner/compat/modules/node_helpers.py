"""Small things that nodes share."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from PIL import ImageFile, UnidentifiedImageError
from torch import Tensor

Conditioning = list[list[Any]]


def conditioning_set_values(
    conditioning: Sequence[Sequence[Any]], values: Mapping[str, Any] | None = None, append: bool = False
) -> Conditioning:
    """A conditioning with these extras; `append` puts values behind the lists that are there already."""
    changed: Conditioning = []
    for encoded, extras, *_ in conditioning:
        there = dict(extras)
        for name, value in (values or {}).items():
            there[name] = [*there[name], *value] if append and there.get(name) is not None else value
        changed.append([encoded, there])
    return changed


def pillow(function: Callable[..., Any], arg: Any) -> Any:
    """Calls a Pillow function, and once more leniently where a file is cut short."""
    before = ImageFile.LOAD_TRUNCATED_IMAGES
    try:
        return function(arg)
    except (OSError, UnidentifiedImageError, ValueError):
        ImageFile.LOAD_TRUNCATED_IMAGES = True
        return function(arg)
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = before


def hasher() -> Callable[..., Any]:
    """What digests files."""
    return hashlib.sha256


def string_to_torch_dtype(string: str) -> torch.dtype | None:
    known = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
    return known.get(string)


def image_alpha_fix(destination: Tensor, source: Tensor) -> tuple[Tensor, Tensor]:
    """Pictures (B, H, W, C) with as many channels: what the source has too many goes, what it lacks is 1."""
    wanted, has = destination.shape[-1], source.shape[-1]
    if wanted < has:
        return destination, source[..., :wanted]
    if wanted > has:
        return destination, torch.nn.functional.pad(source, (0, wanted - has), value=1.0)
    return destination, source
