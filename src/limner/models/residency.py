"""What stays on the device, and what makes room for what."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn

from limner.models.keys import Place
from limner.models.patcher import Patcher
from limner.models.patches import patched


@contextmanager
def use(*users: Patcher) -> Iterator[None]:
    """While the block runs, these are on their device with their patches applied.

    Patched weights stay in the module until another user of it comes. For one thread.
    """
    for user in users:
        _apply(user)
    yield


def _apply(user: Patcher) -> None:
    module = user.module
    state: _Applied = module.__dict__.setdefault("_limner_applied", _Applied())
    if state.uuid == (user.patches_uuid if user.patches else None):
        return
    state.restore(module)
    for key, patches in user.patches.items():
        whole = patched(user.keys.gather(module, key), patches)
        first = 0
        for place in user.keys.places[key]:
            first += state.put(module, place, whole[first:] if len(user.keys.places[key]) > 1 else whole)
    state.uuid = user.patches_uuid if user.patches else None


class _Applied:
    """What a module's weights were before the patches of one user came."""

    def __init__(self) -> None:
        self.uuid: object = None
        self.originals: dict[str, Tensor] = {}

    def put(self, module: nn.Module, place: Place, weight: Tensor) -> int:
        """Puts a weight, or its first rows, into its place; says how many rows that took."""
        parameter = _parameter(module, place.parameter)
        self.originals.setdefault(place.parameter, parameter.data)
        if place.rows is None:
            rows = len(parameter) if parameter.ndim else 1
            parameter.data = weight[:rows].reshape(parameter.shape) if parameter.ndim else weight.reshape(())
            return rows
        if parameter.data_ptr() == self.originals[place.parameter].data_ptr():
            parameter.data = parameter.data.clone()
        start, end = place.rows
        parameter.data[start:end] = weight[: end - start]
        return end - start

    def restore(self, module: nn.Module) -> None:
        with torch.no_grad():
            for name, weight in self.originals.items():
                _parameter(module, name).data = weight
        self.originals.clear()
        self.uuid = None


def _parameter(module: nn.Module, name: str) -> Tensor:
    found: Any = reduce(getattr, name.split("."), module)
    assert isinstance(found, Tensor)
    return found
