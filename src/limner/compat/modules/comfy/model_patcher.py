"""ModelPatcher: what MODEL sockets carry, and what packs put modules of their own into."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from limner.models.keys import KeyMap
from limner.models.model import BaseModel, Model, copied_options
from limner.models.patch_forms import listed
from limner.models.patcher import Patcher
from limner.models.patches import patched


class _EveryModel(type):
    """All of Limner's models are of this class, however they were made."""

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, Model) if cls is ModelPatcher else super().__instancecheck__(instance)


class ModelPatcher(Model, metaclass=_EveryModel):
    """A base model, or any module, as one user wants it. size, weight_inplace_update: Limner knows by itself."""

    parent: Any = None

    def __init__(
        self,
        model: Any,
        load_device: Any = None,
        offload_device: Any = None,
        size: int = 0,
        weight_inplace_update: bool = False,
    ) -> None:
        if isinstance(model, BaseModel):
            super().__init__(model)
            if load_device is not None:
                self.load_device = torch.device(load_device)
            return
        module: nn.Module = model
        Patcher.__init__(self, module, KeyMap.same(module, ""), torch.device(load_device or "cpu"))
        self.model = model
        self.model_options = {"transformer_options": {}}
        self.object_patches = {}
        self.begin_extras()

    @property
    def name(self) -> str:
        return str(getattr(self.model, "name", type(self.model).__name__))

    def memory_required(self, input_shape: Any) -> float:
        """Bytes that a batch of this shape takes beside the weights, roughly; 0 for modules that do not tell."""
        told = getattr(self.model, "memory_required", None)
        return float(told(input_shape=input_shape)) if told is not None else 0.0

    def calculate_weight(self, patches: Any, weight: torch.Tensor, key: str) -> torch.Tensor:
        """A weight under patches."""
        return patched(weight, tuple(listed(each) for each in patches))


def create_model_options_clone(orig_model_options: dict[str, Any]) -> dict[str, Any]:
    """A copy in which dicts and lists are new."""
    copied: dict[str, Any] = copied_options(orig_model_options)
    return copied


def set_model_options_patch_replace(
    model_options: dict[str, Any],
    patch: object,
    name: str,
    block_name: str,
    number: int,
    transformer_index: int | None = None,
) -> dict[str, Any]:
    """Options in which one attention of the network, or one block, is replaced."""
    options = create_model_options_clone(model_options)
    place = (block_name, number) if transformer_index is None else (block_name, number, transformer_index)
    replaced = options.setdefault("transformer_options", {}).setdefault("patches_replace", {})
    replaced.setdefault(name, {})[place] = patch
    return options


def set_model_options_post_cfg_function(
    model_options: dict[str, Any], post_cfg_function: object, disable_cfg1_optimization: bool = False
) -> dict[str, Any]:
    return _added(model_options, "sampler_post_cfg_function", post_cfg_function, disable_cfg1_optimization)


def set_model_options_pre_cfg_function(
    model_options: dict[str, Any], pre_cfg_function: object, disable_cfg1_optimization: bool = False
) -> dict[str, Any]:
    return _added(model_options, "sampler_pre_cfg_function", pre_cfg_function, disable_cfg1_optimization)


def _added(options: dict[str, Any], name: str, function: object, disable: bool) -> dict[str, Any]:
    options[name] = [*options.get(name, []), function]
    if disable:
        options["disable_cfg1_optimization"] = True
    return options
