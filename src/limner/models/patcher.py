"""Patcher: a module whose weights several users share, each with changes of its own."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Self

import torch
from torch import Tensor, nn

from limner.models.keys import KeyMap
from limner.models.known_patcher import KnownPatcher
from limner.models.patches import WeightPatch
from limner.models.placement import placement


class Patcher(KnownPatcher):
    """A module and the weight patches that one user of it wants. A clone shares the module, not the patches.

    The names are those that node packs know. patches: by original key (`KeyMap`). patches_uuid: equal for equal
    patches; a module that holds the patched weights of one uuid need not be patched again. load_device, dtype: where
    and in which precision the module runs, within `residency.use`; dtype None leaves it as it is.
    """

    def __init__(self, module: nn.Module, keys: KeyMap, device: torch.device, dtype: torch.dtype | None = None) -> None:
        self.module = module
        self.keys = keys
        self.load_device = device
        self.dtype = dtype
        self.patches: dict[str, tuple[WeightPatch, ...]] = {}
        self.patches_uuid = uuid.uuid4()

    def clone(self) -> Self:
        """A second user of the same weights, with the same patches to begin with."""
        other = self.__class__.__new__(self.__class__)
        other.__dict__.update(self.__dict__)
        other.patches = dict(self.patches)
        return other

    def is_clone(self, other: object) -> bool:
        """Whether both share their weights."""
        return isinstance(other, Patcher) and other.module is self.module

    def add_weight_patches(self, patches: Mapping[str, WeightPatch]) -> list[str]:
        """Adds a patch to each of these weights; gives the keys that there are such weights for."""
        known = [key for key in patches if key in self.keys]
        for key in known:
            self.patches[key] = (*self.patches.get(key, ()), patches[key])
        if known:
            self.patches_uuid = uuid.uuid4()
        return known

    def weight(self, key: str) -> Tensor:
        """The weight of an original key as it was loaded, in the file's precision, without patches. KeyError."""
        return placement(self.module).weight(self, key)

    def size_bytes(self) -> int:
        """Bytes of the weights as they were loaded."""
        return sum(tensor.nbytes for tensor in placement(self.module).home.values())
