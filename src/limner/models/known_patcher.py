"""The names under which node packs know what holds weights and their patches: MODEL and CLIP."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from limner.models.keys import KeyMap
from limner.models.patch_forms import patch_of
from limner.models.patches import WeightPatch, patched
from limner.models.placement import placement


class KnownPatcher:
    """What packs ask of a patcher, told with what `Patcher` has."""

    module: nn.Module
    keys: KeyMap
    load_device: torch.device
    dtype: torch.dtype | None
    patches: dict[str, tuple[WeightPatch, ...]]

    @property
    def offload_device(self) -> torch.device:
        """Where weights lie while they are not used: mapped from their file."""
        return torch.device("cpu")

    @property
    def current_device(self) -> torch.device:
        return placement(self.module).device or self.offload_device

    def current_loaded_device(self) -> torch.device:
        return self.current_device

    def model_size(self) -> int:
        """Bytes of the weights as they were loaded."""
        return sum(tensor.nbytes for tensor in placement(self.module).home.values())

    def loaded_size(self) -> int:
        """Bytes of the device that the weights take now."""
        return placement(self.module).taken

    def model_dtype(self) -> torch.dtype | None:
        """The precision in which the network runs."""
        return self.dtype

    def set_model_compute_dtype(self, dtype: torch.dtype) -> None:
        self.dtype = dtype

    def model_state_dict(self, filter_prefix: str | None = None) -> dict[str, Tensor]:
        """The weights by their original keys, as they were loaded, without patches."""
        home, start = placement(self.module).home, filter_prefix or ""
        return {key: self.keys.gather_from(home.__getitem__, key) for key in self.keys if key.startswith(start)}

    def add_patches(
        self, patches: Mapping[Any, Any], strength_patch: float = 1.0, strength_model: float = 1.0
    ) -> list[Any]:
        """Adds a patch to each of these weights, in any form that packs write; gives those that there are weights for.

        A key may be (key, (dimension, start, length)) for a part of a weight. Raises UnfitInput for unknown forms.
        """
        taken = []
        for named, value in patches.items():
            key, *rest = named if isinstance(named, tuple) else (named,)
            if key in self.keys and self._add(key, patch_of(value, strength_patch, strength_model, *rest)):
                taken.append(named)
        return taken

    def get_key_patches(self, filter_prefix: str | None = None) -> dict[str, list[Any]]:
        """Each weight with its patches, in the form that `add_patches` takes to mix them into another model."""
        state = self.model_state_dict(filter_prefix)
        return {key: [(weight, _as_it_is), *self.patches.get(key, ())] for key, weight in state.items()}

    def patched_weight(self, key: str) -> Tensor:
        """A weight under its patches."""
        home = placement(self.module).home
        return patched(self.keys.gather_from(home.__getitem__, key), self.patches.get(key, ()))

    def _add(self, key: str, patch: WeightPatch) -> list[str]:
        return self.add_weight_patches({key: patch})  # type: ignore[attr-defined,no-any-return]


def _as_it_is(weight: Tensor, **_: Any) -> Tensor:
    return weight
