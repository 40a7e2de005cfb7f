"""A ComfyUI's own /object_info and /models, read as a catalogue.

Node packs write there what they like, so nothing is taken for granted: what cannot be read is left out or taken as
"anything", and never keeps the other nodes from being read. The specs are marked `foreign`: see NodeSpec.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from limner import logs
from limner.graph.catalogue import Catalogue
from limner.graph.folders import Folders
from limner.graph.foreign_inputs import InputReader
from limner.graph.plain import is_text, plain
from limner.graph.spec import KINDS, SHOWN, InputSpec, NodeSpec, OutputSpec
from limner.graph.types import ANY, COMBO, InputType, is_dynamic

log = logs.get("limner.graph")

UNKNOWN_MODULE = "custom_nodes"
"""What a ComfyUI too old to tell where its nodes come from is taken to say."""

NAMED = 20
"""How many of the classes that cannot be read the log names."""

NO_MODELS = frozenset({"custom_nodes"})
"""What /models lists although no models lie there."""


def catalogue_of(object_info: Mapping[str, Any], models: Mapping[str, Sequence[str]]) -> Catalogue:
    """What a ComfyUI offers. `models`: for each kind that /models lists, the names of its files.

    Its digest changes with nodes and model files, and neither with uploads nor with the order of keys.
    """
    files = {kind: _names(names) for kind, names in models.items() if is_text(kind) and kind not in NO_MODELS}
    reader = InputReader(Folders(files))
    found = {name: spec_of(name, entry, reader) for name, entry in object_info.items()}
    left_out = [repr(name) for name, spec in found.items() if spec is None]
    if left_out:
        log.warning("node classes that cannot be read are left out", count=len(left_out), nodes=left_out[:NAMED])
    return Catalogue(nodes={name: spec for name, spec in found.items() if spec is not None}, models=files)


def spec_of(name: str, entry: Any, reader: InputReader | None = None) -> NodeSpec | None:
    """One class's entry of /object_info; None where it is no description of a node."""
    if not is_text(name) or not isinstance(entry, Mapping):
        return None
    inputs, has_unread = _inputs(name, entry, reader := reader or InputReader(Folders({})))
    tooltips = entry.get("output_tooltips")
    return NodeSpec(
        name=name,
        display_name=_text(entry, "display_name", None),
        category=_text(entry, "category", ""),
        description=_text(entry, "description", ""),
        python_module=_text(entry, "python_module", UNKNOWN_MODULE),
        inputs=inputs,
        outputs=tuple(_outputs(entry, reader)),
        output_node=bool(entry.get("output_node")),
        output_tooltips=tuple(plain(tooltips)) if isinstance(tooltips, list) else None,
        deprecated=bool(entry.get("deprecated")),
        experimental=bool(entry.get("experimental")),
        api_node=bool(entry.get("api_node")),
        schema_style="api_node" in entry and "deprecated" in entry,
        open_inputs=has_unread or any(is_dynamic(each.type) for each in inputs),
        foreign=True,
        kinds=tuple(_sections(entry)) or ("required",),
        more={key: plain(value) for key, value in entry.items() if is_text(key) and key not in SHOWN},
    )


def _inputs(class_name: str, entry: Mapping[str, Any], reader: InputReader) -> tuple[tuple[InputSpec, ...], bool]:
    """The inputs in their order, and whether there are others, of which nothing can be told."""
    found: dict[str, InputSpec] = {}
    has_unread = False
    for kind, section in _sections(entry).items():
        for name in _in_order(entry, kind, section):
            spec = reader.read(class_name, name, kind, section[name]) if is_text(name) else None
            if spec is None:
                has_unread = True
            else:
                found.setdefault(name, spec)
    return tuple(found.values()), has_unread


def _sections(entry: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    shown = entry.get("input")
    if not isinstance(shown, Mapping):
        return {}
    return {kind: shown[kind] for kind in KINDS if isinstance(shown.get(kind), Mapping)}


def _in_order(entry: Mapping[str, Any], kind: str, section: Mapping[str, Any]) -> list[str]:
    """The names as the pack ordered them: in `input_order` where that is told, else as they come."""
    told = entry.get("input_order")
    order = told.get(kind) if isinstance(told, Mapping) else None
    named = [name for name in order if isinstance(name, str) and name in section] if isinstance(order, list) else []
    return list(dict.fromkeys([*named, *section]))


def _outputs(entry: Mapping[str, Any], reader: InputReader) -> Iterator[OutputSpec]:
    """One for each type; names and list marks may be fewer."""
    types = entry.get("output")
    if isinstance(types, str):  # a pack that wrote ("IMAGE") for ("IMAGE",)
        types = [types]
    names, marks = entry.get("output_name"), entry.get("output_is_list")
    for slot, shown in enumerate(types if isinstance(types, list) else ()):
        type_: InputType = reader.choices(shown) if isinstance(shown, list) else _type(shown)
        name, mark = _at(names, slot), _at(marks, slot)
        yield OutputSpec(
            name=plain(name) if isinstance(name, str) else type_ if isinstance(type_, str) else COMBO,
            type=type_,
            is_list=mark is True,
            any_type=type_ == ANY or is_dynamic(type_),
        )


def _type(shown: Any) -> str:
    return shown if is_text(shown) else ANY


def _at(values: Any, slot: int) -> Any:
    return values[slot] if isinstance(values, list) and slot < len(values) else None


def _text(entry: Mapping[str, Any], key: str, otherwise: Any) -> Any:
    value = entry.get(key)
    return plain(value) if isinstance(value, str) else otherwise


def _names(names: Any) -> tuple[str, ...]:
    """A folder's files, sorted; what names no file is left out."""
    if not isinstance(names, list | tuple):
        return ()
    return tuple(sorted({each for each in names if is_text(each) and each.strip("./\\ ")}))
