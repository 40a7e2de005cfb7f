"""LoRAs as packs read them: tensors by name into weight patches by key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from limner.compat.state import weights_of
from limner.models.lora.names import Target, denoiser_names, encoder_names
from limner.models.lora.read import parsed
from limner.models.patch_forms import listed
from limner.models.patches import patched


def load_lora(lora: Mapping[str, Tensor], to_load: Mapping[str, Any], log_missing: bool = True) -> dict[Any, Any]:
    """What a LoRA adds, by the keys that `to_load` has for the names of its parts; to be given to `add_patches`."""
    found: dict[Any, Any] = {}
    for name, part in parsed(weights_of(lora, name="a LoRA")).modules.items():
        key = to_load.get(name)
        if key is None:
            continue
        if part.weight is not None:
            found[key] = part.weight
        if part.bias is not None and isinstance(key, str):
            found[f"{key.removesuffix('.weight')}.bias"] = part.bias
    return found


def model_lora_keys_unet(model: Any, key_map: dict[str, Any] | None = None) -> dict[str, Any]:
    """Every name that a LoRA may have for a part of a base model, with the key of its weight."""
    made = {} if key_map is None else key_map
    return _keys(denoiser_names(model.diffusion_model, model.keys), made)


def model_lora_keys_clip(model: Any, key_map: dict[str, Any] | None = None) -> dict[str, Any]:
    """The same for text encoders (`clip.cond_stage_model`)."""
    made = {} if key_map is None else key_map
    return _keys(encoder_names(model, model.keys()), made)


def calculate_weight(
    patches: Sequence[Any],
    weight: Tensor,
    key: str,
    intermediate_dtype: torch.dtype = torch.float32,
    original_weights: Any = None,
) -> Tensor:
    """A weight under patches, in its own precision."""
    return patched(weight.to(intermediate_dtype), tuple(listed(each) for each in patches)).to(weight.dtype)


def _keys(names: Mapping[str, Target], made: dict[str, Any]) -> dict[str, Any]:
    for name, target in names.items():
        key = f"{target.key}.weight"
        made[name] = key if target.rows is None else (key, (0, target.rows[0], target.rows[1] - target.rows[0]))
    return made
