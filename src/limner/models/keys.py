"""KeyMap: the names that weights have in files, and where these weights lie in the module that runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Place:
    """A parameter of a module, or some of its rows. `rows` = (first, one past the last), None for all."""

    parameter: str
    rows: tuple[int, int] | None = None


@dataclass(frozen=True)
class KeyMap:
    """For each key of the original layout (`diffusion_model.input_blocks.0.0.weight`) its places in a module.

    Several places: the original weight is these, one after the other along its first dimension (a joined qkv).
    LoRA files, merges and saved models name weights by the original layout, modules have that of their library.
    shapes: of those original weights whose shape is not the module's (a convolution that became a linear layer).
    """

    places: Mapping[str, tuple[Place, ...]]
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    @classmethod
    def same(cls, module: nn.Module, prefix: str) -> KeyMap:
        """Where the original names are the module's own, behind a prefix."""
        return cls({f"{prefix}{name}": (Place(name),) for name in module.state_dict()})

    def __contains__(self, key: str) -> bool:
        return key in self.places

    def __iter__(self) -> Iterator[str]:
        return iter(self.places)

    @cached_property
    def originals(self) -> Mapping[str, str]:
        """The original key that holds each parameter of the module."""
        return {place.parameter: key for key, places in self.places.items() for place in places}

    def gather(self, module: nn.Module, key: str) -> Tensor:
        """The weight of this original key, from the module. A view where it is one whole parameter. KeyError."""
        return self.gather_from(lambda name: _tensor(module, name), key)

    def gather_from(self, get: Callable[[str], Tensor], key: str) -> Tensor:
        """The same from anything that gives parameters by name."""
        parts = [_part(get(place.parameter), place) for place in self.places[key]]
        whole = parts[0] if len(parts) == 1 else torch.cat(parts)
        return whole.reshape(self.shapes[key]) if key in self.shapes else whole


def _part(tensor: Tensor, place: Place) -> Tensor:
    return tensor if place.rows is None else tensor[place.rows[0] : place.rows[1]]


def _tensor(module: nn.Module, name: str) -> Tensor:
    owner, _, last = name.rpartition(".")
    found = getattr(module.get_submodule(owner), last)
    if not isinstance(found, Tensor):
        raise KeyError(name)
    return found
