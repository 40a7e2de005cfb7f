"""A saved graph as data: boxes with numbered sockets, links between them, and subgraphs used as boxes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from limner.errors import WorkflowInvalid

ALWAYS, MUTED, BYPASSED = 0, 2, 4
"""`mode` of a box. Others belong to triggers, and run as always."""

INPUTS_OF_SUBGRAPH, OUTPUTS_OF_SUBGRAPH = "-10", "-20"
"""Ids under which a subgraph's links name its own sockets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedInput:
    """An input socket: the link that feeds it, and the widget that it stands for, if any."""

    name: str
    type: Any
    link: str | None
    widget: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """One node of the save."""

    id: str
    type: str
    title: str | None
    mode: int
    inputs: tuple[SavedInput, ...]
    output_types: tuple[Any, ...]
    values: Any  # of its widgets: a list in their order, or an object
    named_values: Mapping[str, Any] | None
    properties: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedLink:
    origin: str
    origin_slot: int
    target: str
    target_slot: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """Boxes and links of one level. Of a subgraph also the names of its own sockets."""

    boxes: Mapping[str, Box]
    links: Mapping[str, SavedLink]
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Save:
    """A whole file: the outermost graph, and the subgraphs by the id that boxes have as their type."""

    graph: Graph
    subgraphs: Mapping[str, Graph] = field(default_factory=dict)


def parse(raw: Mapping[str, Any]) -> Save:
    """Reads what the editor saved. Raises WorkflowInvalid where that is not of its form."""
    try:
        definitions = raw.get("definitions") or {}
        subgraphs = {str(each["id"]): _graph(each) for each in definitions.get("subgraphs") or []}
        return Save(graph=_graph(raw), subgraphs=subgraphs)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise WorkflowInvalid("invalid_prompt", "The saved workflow is damaged.", reason) from error


def _graph(raw: Mapping[str, Any]) -> Graph:
    boxes = [_box(each) for each in raw["nodes"]]
    return Graph(
        boxes={box.id: box for box in boxes},
        links=dict(map(_link, raw.get("links") or [])),
        inputs=tuple(str(each["name"]) for each in raw.get("inputs") or []),
        outputs=tuple(str(each["name"]) for each in raw.get("outputs") or []),
    )


def _box(raw: Mapping[str, Any]) -> Box:
    named = raw.get("widgets_values_named")
    return Box(
        id=str(raw["id"]),
        type=str(raw["type"]),
        title=raw.get("title"),
        mode=int(raw.get("mode") or ALWAYS),
        inputs=tuple(
            SavedInput(
                name=str(each["name"]),
                type=each.get("type"),
                link=None if each.get("link") is None else str(each["link"]),
                widget=str(each["widget"]["name"]) if each.get("widget") else None,
            )
            for each in raw.get("inputs") or []
        ),
        output_types=tuple(each.get("type") for each in raw.get("outputs") or []),
        values=raw.get("widgets_values"),
        named_values=named if isinstance(named, dict) else None,
        properties=raw.get("properties") or {},
    )


def _link(raw: Any) -> tuple[str, SavedLink]:
    """A link is a list [id, origin, slot, target, slot, type], in newer parts an object."""
    if isinstance(raw, dict):
        number, *ends = (raw[key] for key in ("id", "origin_id", "origin_slot", "target_id", "target_slot"))
    else:
        number, *ends = raw[:5]
    origin, origin_slot, target, target_slot = ends
    return str(number), SavedLink(
        origin=str(origin), origin_slot=int(origin_slot), target=str(target), target_slot=int(target_slot)
    )
