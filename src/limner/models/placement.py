"""Placement: where the weights of one module are, at home or on its device, and under whose patches."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator, Mapping
from functools import reduce
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from limner.models.keys import KeyMap, Place
from limner.models.patches import WeightPatch, patched
from limner.models.streaming import Streamed, beyond
from limner.models.weights import release


class User(Protocol):
    """Who wants a module, and how: on which device, in which precision (None: as it is), under which patches."""

    keys: KeyMap
    load_device: torch.device
    dtype: torch.dtype | None
    patches: dict[str, tuple[WeightPatch, ...]]

    @property
    def patches_uuid(self) -> object: ...


class Placement:
    """The weights of a module. `home`: as they were loaded, mapped from the file, so that going home costs nothing.

    taken: bytes of the device that its copies there take; 0 where home is where they run.
    """

    def __init__(self, module: nn.Module) -> None:
        self._ref = weakref.ref(module)
        self.home: dict[str, Tensor] = dict(_tensors(module))
        self.taken = 0
        self._target: tuple[torch.device, torch.dtype | None] | None = None
        self._patches: object = None
        self._patched: set[str] = set()
        self._streamed: Streamed | None = None
        self._held: dict[str, Tensor] = {}  # patched weights that are streamed

    @property
    def _module(self) -> nn.Module:
        module = self._ref()
        assert module is not None
        return module

    @property
    def device(self) -> torch.device | None:
        """Where the module has been placed; None at home."""
        return self._target[0] if self._target else None

    def needs(self, user: User) -> int:
        """Bytes of the device that placing the module for this user would take beyond what it has there."""
        if self._target == (user.load_device, user.dtype):
            return 0
        moved = (tensor for tensor in self.home.values() if not _fits(tensor, user))
        return sum(tensor.numel() * _dtype(tensor, user).itemsize for tensor in moved)

    def serves(self, user: User) -> bool:
        """Whether the module is on this user's device under this user's patches."""
        return self._target == (user.load_device, user.dtype) and self._patches == _wanted(user)

    def place(self, user: User, room: int | None = None) -> None:
        """Brings the module to the user's device in its precision, with the user's patches. May raise out of memory.

        room: bytes that it may take there; what finds no place in them comes for each call anew (see `Streamed`).
        """
        with torch.inference_mode(False), torch.no_grad():
            if self._target != (user.load_device, user.dtype):
                self.go_home()
                self._stream(user, room)
                away = self._away()
                self._send((name for name in self.home if name not in away), user)
                self._target = (user.load_device, user.dtype)
            else:
                self._send(sorted(self._patched - self._away()), user)
            self._patched = set()
            self._held = {}
            self._patches = None
            self._patch(user)
            self._patches = _wanted(user)

    def go_home(self) -> None:
        """Takes the copies away from the device. What runs on the module now must have ended."""
        for name, tensor in self.home.items():
            _put(self._module, name, tensor)
        self.taken, self._target, self._patches, self._patched = 0, None, None, set()
        if self._streamed is not None:
            self._streamed.end()
        self._streamed, self._held = None, {}

    def weight(self, user: User, key: str) -> Tensor:
        """The weight of an original key as it is at home, without patches; a view where possible. KeyError."""
        return user.keys.gather_from(self.home.__getitem__, key)

    def _send(self, names: Iterable[str], user: User) -> None:
        """Puts copies of these weights on the device. Tensors that several names share are copied once."""
        done: dict[int, Tensor] = {}
        for name in names:
            tensor = self.home[name]
            if id(tensor) not in done:
                done[id(tensor)] = self._moved(tensor, user)
            self._replace(name, done[id(tensor)])

    def _stream(self, user: User, room: int | None) -> None:
        """Has the weights streamed for which there is no room."""
        sizes = {
            name: tensor.numel() * _dtype(tensor, user).itemsize
            for name, tensor in self.home.items()
            if isinstance(tensor, nn.Parameter) and not _fits(tensor, user)
        }
        names = [] if room is None else beyond(sizes, room)
        if names:
            self._streamed = Streamed(self._module, names, lambda name: self._fetched(name, user), self.home)

    def _fetched(self, name: str, user: User) -> Tensor:
        held = self._held.get(name)
        return self._moved(self.home[name], user) if held is None else held.to(user.load_device)

    def _away(self) -> frozenset[str]:
        """The names of the weights that are streamed."""
        return frozenset() if self._streamed is None else self._streamed.names

    def _moved(self, tensor: Tensor, user: User) -> Tensor:
        if _fits(tensor, user):
            return tensor
        moved = tensor.to(user.load_device, _dtype(tensor, user))
        release(tensor)
        return moved

    def _patch(self, user: User) -> None:
        for key, patches in user.patches.items():
            places = user.keys.places[key]
            whole = patched(self.weight(user, key).to(user.load_device).float(), patches)
            row = 0
            for place in places:
                row += self._change(place, whole[row:] if len(places) > 1 else whole, user)

    def _change(self, place: Place, weight: Tensor, user: User) -> int:
        """Gives a place its changed weight, from the first rows of this one; says how many it took."""
        home = self.home[place.parameter]
        dtype = _dtype(home, user)
        rows = (place.rows[1] - place.rows[0]) if place.rows else (len(home) if home.ndim else 1)
        part = weight[:rows] if home.ndim and weight.ndim else weight
        away = place.parameter in self._away()
        if place.rows is None:
            now = part.reshape(home.shape).to(dtype)
        else:
            now = self._fetched(place.parameter, user) if away else _get(self._module, place.parameter)
            if place.parameter not in self._patched:
                now = now.detach().clone()
            now[place.rows[0] : place.rows[1]] = part.to(now)
        if away:
            self._held[place.parameter] = now.to(home.device)
        else:
            self._replace(place.parameter, now)
        self._patched.add(place.parameter)
        return rows

    def _replace(self, name: str, tensor: Tensor) -> None:
        before, home = _get(self._module, name), self.home[name]
        self.taken -= before.nbytes if before.data_ptr() != home.data_ptr() else 0
        self.taken += tensor.nbytes if tensor.data_ptr() != home.data_ptr() else 0
        _put(self._module, name, tensor)


_PLACEMENTS: weakref.WeakKeyDictionary[nn.Module, Placement] = weakref.WeakKeyDictionary()


def placement(module: nn.Module) -> Placement:
    """The placement of a module; at the first call the weights that it has become its home."""
    found = _PLACEMENTS.get(module)
    if found is None:
        found = _PLACEMENTS[module] = Placement(module)
    return found


def placements() -> Mapping[nn.Module, Placement]:
    """Those of all modules that are still used somewhere."""
    return _PLACEMENTS


def _wanted(user: User) -> object:
    return user.patches_uuid if user.patches else None


def _dtype(tensor: Tensor, user: User) -> torch.dtype:
    """Weights get the user's precision; what a module computes for itself (buffers) keeps its own."""
    cast_it = user.dtype is not None and isinstance(tensor, nn.Parameter) and tensor.is_floating_point()
    return cast(torch.dtype, user.dtype) if cast_it else tensor.dtype


def _fits(tensor: Tensor, user: User) -> bool:
    return tensor.device == user.load_device and tensor.dtype == _dtype(tensor, user)


def _tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from module.named_parameters(remove_duplicate=False)
    yield from module.named_buffers(remove_duplicate=False)


def _get(module: nn.Module, name: str) -> Tensor:
    return cast(Tensor, reduce(getattr, name.split("."), cast(Any, module)))


def _put(module: nn.Module, name: str, tensor: Tensor) -> None:
    path, _, last = name.rpartition(".")
    owner = module.get_submodule(path)
    if last in owner._parameters:
        is_one = isinstance(tensor, nn.Parameter)
        owner._parameters[last] = tensor if is_one else nn.Parameter(tensor, requires_grad=False)  # type: ignore[assignment]
    else:
        owner._buffers[last] = tensor
