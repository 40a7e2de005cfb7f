"""Graphs that nodes give back to run in their place: read, told apart from each other, and their values put in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from limner.engine.dynprompt import DynamicPrompt
from limner.engine.events import NodeRef
from limner.engine.mapping import Slots, joined
from limner.errors import RunError
from limner.graph.kinds import Result
from limner.graph.spec import OutputSpec
from limner.graph.workflow import Link, Node, as_link


@dataclass(frozen=True, slots=True)
class Expanded:
    """A node that waits for the nodes in its place: what its calls returned, and the nodes that it links to."""

    results: Sequence[Result]
    ui: dict[str, list[Any]] | None
    children: tuple[str, ...]
    links: tuple[Link, ...] = field(default=())


def read_graphs(results: Sequence[Result], parent: str, dynprompt: DynamicPrompt) -> dict[str, Node]:
    """The nodes of all graphs that a node's calls returned; `dynprompt` gets them too.

    Raises RunError where a graph is none, or an id is taken already.
    """
    nodes: dict[str, Node] = {}
    for result in results:
        graph: Any = result.expand or {}  # whatever a pack's node has put there
        if not isinstance(graph, dict):
            kind = type(graph).__name__
            raise RunError(f"the graph that node {parent} returned is none: {kind}, not an object of nodes by id")
        for node_id, raw in graph.items():
            if not isinstance(node_id, str) or not isinstance(raw, dict) or not isinstance(raw.get("class_type"), str):
                raise RunError(
                    f"the graph that node {parent} returned is none: {node_id!r} is no node with a class_type"
                )
            inputs = raw.get("inputs", {})
            if not isinstance(inputs, dict):
                raise RunError(
                    f"the graph that node {parent} returned is none: the inputs of {node_id!r} are no object"
                )
            if dynprompt.has_node(node_id):
                raise RunError(
                    f"the graph that node {parent} returned has a node {node_id!r}, but the workflow has one already: "
                    "GraphBuilder makes ids that differ"
                )
            dynprompt.add_ephemeral_node(node_id, raw, parent, str(raw.get("override_display_id", parent)))
            nodes[node_id] = Node(id=node_id, class_type=raw["class_type"], inputs=inputs)
    return nodes


def ref_of(node_id: str, dynprompt: DynamicPrompt, parent: NodeRef | None) -> NodeRef:
    """How events name a node; `parent`: the one in whose place it runs."""
    if parent is None:
        return NodeRef.plain(node_id)
    shown_at = dynprompt.ephemeral_display[node_id]
    display = parent.display if shown_at == parent.id else dynprompt.get_display_node_id(node_id)
    return NodeRef(id=node_id, display=display, parent=parent.id, real=parent.real)


def links_of(results: Sequence[Result]) -> Iterator[Link]:
    """The links among the values of calls that expanded."""
    for result in results:
        if result.expand is not None:
            for value in result.values:
                link = as_link(value)
                if link is not None:
                    yield link


def resolved(expanded: Expanded, outputs: Sequence[OutputSpec], items_of: Callable[[Link], list[Any]]) -> Slots:
    """The outputs of a node once all in its place is done: a link stands for all the items that come by it."""
    parts: list[list[list[Any]]] = []
    for result in expanded.results:
        plain = joined([result], outputs)
        if result.expand is None:
            parts.append(list(plain))
            continue
        linked = [as_link(value) for value in result.values[: len(outputs)]]
        parts.append([items if link is None else items_of(link) for items, link in zip(plain, linked, strict=True)])
    shortest = min(map(len, parts), default=len(outputs))
    return tuple([item for part in parts for item in part[slot]] for slot in range(shortest))


def shown_within(
    children: Sequence[str], shown: Mapping[str, tuple[dict[str, Any], dict[str, Any]]]
) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """What the nodes in a node's place have shown."""
    return {node_id: shown[node_id] for node_id in children if node_id in shown}
