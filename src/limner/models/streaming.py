"""Streamed: weights for which the device has no room. They come to it layer by layer, for each call anew."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle


class Streamed:
    """The weights of these names: what `fetch` gives while the layer that owns one computes, else what `home` has.

    Slow, as each call moves them again; but a network larger than the device's memory runs at all.
    """

    def __init__(
        self, module: nn.Module, names: Iterable[str], fetch: Callable[[str], Tensor], home: Mapping[str, Tensor]
    ) -> None:
        self.names = frozenset(names)
        self._fetch = fetch
        self._home = home
        self._hooks: list[RemovableHandle] = []
        layers: dict[str, dict[str, str]] = {}
        for name in self.names:
            path, _, own = name.rpartition(".")
            layers.setdefault(path, {})[own] = name
        for path, owned in layers.items():
            layer = module.get_submodule(path)
            self._hooks.append(layer.register_forward_pre_hook(self._bringing(owned), prepend=True))
            self._hooks.append(layer.register_forward_hook(self._taking(owned), always_call=True))

    def end(self) -> None:
        """Lets go of the layers."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        self.names = frozenset()

    def _bringing(self, owned: Mapping[str, str]) -> Callable[..., tuple[Any, ...]]:
        def bring(layer: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
            with torch.inference_mode(False), torch.no_grad():
                fetched = {own: nn.Parameter(self._fetch(name), requires_grad=False) for own, name in owned.items()}
            layer._parameters.update(fetched)
            device = next(iter(fetched.values())).device
            # who asked the layer where it is, before, was told of its home
            return tuple(each.to(device) if isinstance(each, Tensor) else each for each in inputs)

        return bring

    def _taking(self, owned: Mapping[str, str]) -> Callable[..., None]:
        def take(layer: nn.Module, _inputs: tuple[Any, ...], _output: object) -> None:
            for own, name in owned.items():
                layer._parameters[own] = self._home[name]  # type: ignore[assignment]

        return take


def beyond(sizes: Mapping[str, int], room: int) -> list[str]:
    """The names of the weights that find no place any more when `room` bytes are filled in order."""
    left, found = room, []
    for name, size in sizes.items():
        left -= size
        if left < 0:
            found.append(name)
    return found
