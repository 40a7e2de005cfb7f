"""Long lists of choices in a catalogue's JSON, each kept once: packs offer the same thousands of files in many inputs.

A node's entry names a shared list as `{"list": KEY}` where the list would stand: as an input's or an output's type, or
as `options.options`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

SHARED_FROM = 100
"""From how many choices on a list is kept apart."""

Node = dict[str, Any]


def shared(nodes: Mapping[str, Node]) -> tuple[dict[str, Node], dict[str, list[Any]]]:
    """The same entries with keys for long lists, and the lists by their keys. The entries are not changed."""
    lists: dict[str, list[Any]] = {}
    keys: dict[int, str] = {}  # by identity: lists that were equal when they were read are one list

    def named(value: Any) -> Any:
        if not isinstance(value, list) or len(value) < SHARED_FROM:
            return value
        key = keys.get(id(value))
        if key is None:
            text = json.dumps(value, sort_keys=True, separators=(",", ":"))
            key = keys[id(value)] = hashlib.sha256(text.encode()).hexdigest()[:32]
            lists[key] = value
        return {"list": key}

    return {name: _with_lists(node, named) for name, node in nodes.items()}, lists


def unshared(nodes: Mapping[str, Node], lists: Mapping[str, list[Any]]) -> Mapping[str, Node]:
    """The entries with their lists. KeyError where one is not there."""
    if not lists:
        return nodes

    def found(value: Any) -> Any:
        return lists[value["list"]] if isinstance(value, dict) and set(value) == {"list"} else value

    return {name: _with_lists(node, found) for name, node in nodes.items()}


def _with_lists(node: Node, change: Any) -> Node:
    sections = {
        kind: {name: _input(shown, change) for name, shown in section.items()}
        for kind, section in node["input"].items()
    }
    return {**node, "input": sections, "output": [change(type_) for type_ in node["output"]]}


def _input(shown: Any, change: Any) -> Any:
    if not isinstance(shown, list):
        return shown
    type_, *rest = shown
    if rest and isinstance(rest[0], dict) and "options" in rest[0]:
        rest = [{**rest[0], "options": change(rest[0]["options"])}]
    return [change(type_), *rest]
