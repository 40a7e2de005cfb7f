"""INPUT_TYPES of a ComfyUI-style class as input specs, in whatever odd form packs write it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from limner.compat.lists import FolderList
from limner.graph.folders import Folders
from limner.graph.spec import KINDS, InputSpec
from limner.graph.types import ANY, InputType, is_dynamic

UPLOADS = ("image", "video", "audio", "file")


class Reader:
    """Reads the inputs of one class. `folders`: which model folder a plain list of names may come from."""

    def __init__(self, class_name: str, folders: Folders) -> None:
        self._class_name = class_name
        self._folders = folders

    def inputs(self, sections: Mapping[str, Any]) -> Iterator[InputSpec]:
        """Every input, hidden ones last. Sections of other names, and what is no mapping, are left out."""
        for kind in KINDS:
            section = sections.get(kind)
            if isinstance(section, Mapping):
                for name, given in list(section.items()):
                    yield self._hidden(str(name), given) if kind == "hidden" else self.input(str(name), kind, given)

    def input(self, name: str, kind: str, given: Any) -> InputSpec:
        """One input: `(type,)`, `(type, options)`, or the type alone."""
        type_, options, has_options = _parts(given)
        any_type = is_any(type_)
        shown = shown_type(type_)
        first, folder, last = self._folder(name, type_)
        upload = next((each for each in UPLOADS if options.get(f"{each}_upload")), None)
        if folder is not None and isinstance(shown, list):
            shown = []
        return InputSpec(
            name=name,
            type=shown,
            options=as_json(options),
            kind=kind,
            folder=folder,
            upload=upload if folder is None else None,
            has_options=has_options,
            any_type=any_type or is_dynamic(shown),
            first=first,
            last=last,
        )

    def _hidden(self, name: str, given: Any) -> InputSpec:
        """What the engine fills in, told as a word; packs also put other things here, which stay unfilled."""
        type_ = given[0] if isinstance(given, list | tuple) and given else given
        return InputSpec(name=name, type=str(type_) if isinstance(type_, str) else ANY, kind="hidden")

    def _folder(self, name: str, type_: Any) -> tuple[tuple[str, ...], str | None, tuple[str, ...]]:
        if isinstance(type_, FolderList) and type_.whole:
            return type_.first, type_.folder, type_.last
        if isinstance(type_, list | tuple) and len(type_) > 0:
            offer = self._folders.offer(self._class_name, name, list(type_))
            if offer is not None:
                return offer.first, offer.folder, offer.last
        return (), None, ()


def is_any(type_: Any) -> bool:
    """Whether a type joins with every other: a text made to be equal to all, or what is no text at all."""
    if isinstance(type_, str):
        return type(type_) is not str and not type_ != "a type that no node has"  # noqa: SIM202 - `!=` is what such texts change
    return not isinstance(type_, list | tuple)


def shown_type(type_: Any) -> InputType:
    """The type as /object_info shows it: a text, or a list of choices."""
    if isinstance(type_, str):
        return str.__str__(type_)
    if isinstance(type_, list | tuple):
        return [as_json(each) for each in type_]
    if isinstance(type_, set | frozenset):
        return sorted(as_json(each) for each in type_)
    if isinstance(type_, Mapping):
        return as_json(type_)  # type: ignore[no-any-return]  # `{}` as a type is shown as it is
    return ANY


def _parts(given: Any) -> tuple[Any, dict[str, Any], bool]:
    if isinstance(given, list | tuple) and not isinstance(given, FolderList):
        options = given[1] if len(given) > 1 else None
        type_ = given[0] if given else ANY
        return type_, dict(options) if isinstance(options, Mapping) else {}, isinstance(options, Mapping)
    return given, {}, False


def as_json(value: Any, depth: int = 12) -> Any:
    """A value as JSON can hold it: what cannot be shown is shown as its text."""
    if isinstance(value, str):
        return str.__str__(value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else str(value)
    if depth and isinstance(value, Mapping):
        return {str(key): as_json(each, depth - 1) for key, each in value.items()}
    if depth and isinstance(value, Iterable) and not isinstance(value, bytes):
        return [as_json(each, depth - 1) for each in value]
    return str(value)
