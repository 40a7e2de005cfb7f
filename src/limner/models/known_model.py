"""What node packs hang on a MODEL beside patches: wrappers, callbacks, attachments, injections, models of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from limner.errors import UnfitInput
from limner.models import wrappers as wrapping
from limner.models.patcher import Patcher

ON_CLONE = "on_clone"
ON_LOAD = "on_load_after"
ON_PRE_RUN = "on_pre_run"
ON_CLEANUP = "on_cleanup"
ON_INJECT_MODEL = "on_inject_model"
ON_EJECT_MODEL = "on_eject_model"

CALLBACKS = frozenset({ON_CLONE, ON_LOAD, ON_PRE_RUN, ON_CLEANUP, ON_INJECT_MODEL, ON_EJECT_MODEL})
"""When packs are called: a clone was made (old, new), the weights are placed, a walk begins, a walk has ended."""

Named = dict[str, dict[str | None, list[Any]]]


class KnownModel:
    """Kept by a key of the pack's choice, and cloned with the model. `begin_extras` is to be called first."""

    wrappers: wrapping.Named
    callbacks: Named
    attachments: dict[str, Any]
    injections: dict[str, list[Any]]
    additional_models: dict[str, list[Any]]

    def begin_extras(self) -> None:
        self.wrappers, self.callbacks, self.attachments = {}, {}, {}
        self.injections, self.additional_models = {}, {}
        self.is_injected = False

    def clone_extras(self, other: KnownModel) -> None:
        """Gives a clone what it has, and tells those who want to hear of clones."""
        other.wrappers = {kind: _copied(named) for kind, named in self.wrappers.items()}
        other.callbacks = {kind: _copied(named) for kind, named in self.callbacks.items()}
        other.injections = _copied(self.injections)
        other.additional_models = _copied(self.additional_models)
        other.is_injected = False
        other.attachments = {
            key: each.on_model_patcher_clone() if hasattr(each, "on_model_patcher_clone") else each
            for key, each in self.attachments.items()
        }
        for callback in self.get_all_callbacks(ON_CLONE):
            callback(self, other)

    def add_wrapper(self, wrapper_type: Any, wrapper: wrapping.Wrapper) -> None:
        self.add_wrapper_with_key(wrapper_type, None, wrapper)

    def add_wrapper_with_key(self, wrapper_type: Any, key: str | None, wrapper: wrapping.Wrapper) -> None:
        """Calls `wrapper(executor, ...)` around a part of sampling. Raises UnfitInput for an unknown part."""
        self.wrappers.setdefault(wrapping.checked(wrapper_type), {}).setdefault(key, []).append(wrapper)

    def remove_wrappers_with_key(self, wrapper_type: Any, key: str | None) -> None:
        self.wrappers.get(_name(wrapper_type), {}).pop(key, None)

    def get_wrappers(self, wrapper_type: Any, key: str | None) -> list[wrapping.Wrapper]:
        return list(self.wrappers.get(_name(wrapper_type), {}).get(key, ()))

    def get_all_wrappers(self, wrapper_type: Any) -> list[wrapping.Wrapper]:
        return [each for found in self.wrappers.get(_name(wrapper_type), {}).values() for each in found]

    def add_callback(self, call_type: Any, callback: Callable[..., Any]) -> None:
        self.add_callback_with_key(call_type, None, callback)

    def add_callback_with_key(self, call_type: Any, key: str | None, callback: Callable[..., Any]) -> None:
        """Calls a function of the model at a moment. Raises UnfitInput for one that does not come here."""
        name = _name(call_type)
        if name not in CALLBACKS:
            raise UnfitInput(f"Limner calls nobody at {name!r}; it does at {', '.join(sorted(CALLBACKS))}")
        self.callbacks.setdefault(name, {}).setdefault(key, []).append(callback)

    def remove_callbacks_with_key(self, call_type: Any, key: str | None) -> None:
        self.callbacks.get(_name(call_type), {}).pop(key, None)

    def get_callbacks(self, call_type: Any, key: str | None) -> list[Callable[..., Any]]:
        return list(self.callbacks.get(_name(call_type), {}).get(key, ()))

    def get_all_callbacks(self, call_type: Any) -> list[Callable[..., Any]]:
        return [each for found in self.callbacks.get(_name(call_type), {}).values() for each in found]

    def set_attachments(self, key: str, attachment: Any) -> None:
        self.attachments[key] = attachment

    def get_attachment(self, key: str) -> Any:
        return self.attachments.get(key)

    def remove_attachments(self, key: str) -> None:
        self.attachments.pop(key, None)

    def set_injections(self, key: str, injections: Sequence[Any]) -> None:
        """Things with `inject` and `eject`, each a function of the model, to be called before and after a walk."""
        self.injections[key] = list(injections)

    def get_injections(self, key: str) -> list[Any] | None:
        return self.injections.get(key)

    def remove_injections(self, key: str) -> None:
        self.injections.pop(key, None)

    def set_additional_models(self, key: str, models: Sequence[Any]) -> None:
        """Models that must be on the device while this one is."""
        self.additional_models[key] = list(models)

    def get_additional_models_with_key(self, key: str) -> list[Any]:
        return list(self.additional_models.get(key, ()))

    def get_additional_models(self) -> list[Any]:
        return [each for models in self.additional_models.values() for each in models]

    def remove_additional_models(self, key: str) -> None:
        self.additional_models.pop(key, None)

    def beside(self) -> list[Patcher]:
        """The patchers among the models that it needs beside it, and those that these need."""
        found: list[Patcher] = []
        for each in self.get_additional_models():
            if isinstance(each, Patcher):
                found += [each, *(each.beside() if isinstance(each, KnownModel) else ())]
        return found

    @contextmanager
    def walking(self, device: torch.device) -> Iterator[None]:
        """Around a walk, within `use`: those who want to hear of it are called."""
        for callback in self.get_all_callbacks(ON_LOAD):
            callback(self, device, 0, False, True)
        self.inject_model()
        try:
            for callback in self.get_all_callbacks(ON_PRE_RUN):
                callback(self)
            yield
        finally:
            for callback in self.get_all_callbacks(ON_CLEANUP):
                callback(self)
            self.eject_model()

    def inject_model(self) -> None:
        if self.is_injected or not self.injections:
            return
        for injection in self._injections():
            injection.inject(self)
        self.is_injected = True
        for callback in self.get_all_callbacks(ON_INJECT_MODEL):
            callback(self)

    def eject_model(self) -> None:
        if not self.is_injected:
            return
        for injection in self._injections():
            injection.eject(self)
        self.is_injected = False
        for callback in self.get_all_callbacks(ON_EJECT_MODEL):
            callback(self)

    def _injections(self) -> list[Any]:
        return [each for found in self.injections.values() for each in found]


def _name(kind: Any) -> str:
    return str(getattr(kind, "value", kind))


def _copied(named: dict[Any, list[Any]]) -> dict[Any, list[Any]]:
    return {key: list(found) for key, found in named.items()}
