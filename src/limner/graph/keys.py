"""A node's cache key: its class, its values, and the keys of all that feeds it. Equal keys mean equal results."""

from __future__ import annotations

import hashlib
import json
from collections import ChainMap
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from itertools import count
from typing import Any

from limner.graph.plan import feeders_first
from limner.graph.spec import NodeSpec
from limner.graph.workflow import Link, Node, Workflow, as_link, unwrapped

Fingerprint = Callable[[Node], Any]
"""What a node's result depends on beside its inputs; None when there is nothing."""

FileMark = Callable[[str, str], Any]
"""What tells whether a model file is still the same, by folder and name: its size and time, say. None: no such file."""

_never_again = count()
_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode  # json.dumps would make one for each node


def content_keys(
    workflow: Workflow,
    specs: Mapping[str, NodeSpec],
    fingerprint: Fingerprint,
    *,
    file_mark: FileMark | None = None,
    known: MutableMapping[str, str] | None = None,
    under: str = "",
) -> dict[str, str]:
    """The key of each node, by its id. Ids do not count, unless the class makes them (`NodeSpec.keyed_by_id`).

    A fingerprint that is not equal to itself (NaN), or that JSON cannot hold, gives a key that never comes again. So do
    nodes of unknown classes and nodes in a circle. `known`: keys of nodes outside of the workflow, which it may link
    to; `under`: the key of the node in whose place it runs, as its nodes' results belong to that one.
    """
    made: dict[str, str] = {}
    keys: Mapping[str, str] = made if known is None else ChainMap(made, known)

    def feeders(node_id: str) -> Iterator[str]:
        node = workflow.nodes[node_id]
        return (
            link.node_id for _, link in passed_links(node, specs.get(node.class_type)) if link.node_id in workflow.nodes
        )

    for node_id in feeders_first(workflow.nodes, feeders):
        node = workflow.nodes[node_id]
        spec = specs.get(node.class_type)
        if spec is None:
            made[node_id] = _unique()
        else:
            more = [_text(fingerprint(node)), under, _marks(node, spec, file_mark) if file_mark else None]
            made[node_id] = _key(node, spec, more, keys)
    return made


def passed_links(node: Node, spec: NodeSpec | None) -> Iterator[tuple[str, Link]]:
    """The linked inputs that the node gets: those it declares. Of an unknown class all count."""
    for name, link in node.links():
        if spec is None or spec.open_inputs or name in spec.input:
            yield name, link


def _key(node: Node, spec: NodeSpec, more: list[Any], keys: Mapping[str, str]) -> str:
    inputs: list[list[Any]] = []
    for name in sorted(node.inputs):
        value = node.inputs[name]
        link = as_link(value) if spec.open_inputs or name in spec.input else None
        if link is None or link.node_id not in keys:
            inputs.append([name, unwrapped(value)])
        else:
            inputs.append([name, keys[link.node_id], link.slot])
    own = node.id if spec.keyed_by_id else None
    try:
        content = _encode([node.class_type, own, more, inputs])
    except (TypeError, ValueError):  # a graph made by a node may hold any object
        return _unique()
    return hashlib.sha256(content.encode()).hexdigest()


def _marks(node: Node, spec: NodeSpec, file_mark: FileMark) -> list[Any] | None:
    """Of the model files that the node names: a file may be replaced under its name."""
    named = [
        (each.folder, value)
        for each in spec.with_files
        if isinstance(value := unwrapped(node.inputs.get(each.name)), str) and each.folder
    ]
    return [file_mark(folder, value) for folder, value in named] or None


def _text(fingerprint: Any) -> str | None:
    if fingerprint is None:
        return None
    if isinstance(fingerprint, bytes):
        return fingerprint.hex()
    try:
        return json.dumps(fingerprint, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError):  # not JSON, or NaN: never equal to anything
        return _unique()


def _unique() -> str:
    return f"never again {next(_never_again)}"
