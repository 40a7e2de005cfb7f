"""A save without what only the editor knows: subgraphs, muted and bypassed boxes, reroutes, primitives."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from limner.graph.editor.save import BYPASSED, INPUTS_OF_SUBGRAPH, MUTED, OUTPUTS_OF_SUBGRAPH, Box, Graph, Save

NOTES = frozenset({"Note", "MarkdownNote", "Label (rgthree)", "Bookmark (rgthree)"})
REROUTES = frozenset({"Reroute", "Reroute (rgthree)", "ReroutePrimitive|pysssss"})
SWITCHBOARDS = frozenset({
    "Fast Muter (rgthree)", "Fast Bypasser (rgthree)", "Fast Groups Muter (rgthree)", "Fast Groups Bypasser (rgthree)",
    "Fast Actions Button (rgthree)", "Mute / Bypass Relay (rgthree)", "Mute / Bypass Repeater (rgthree)",
    "Node Collector (rgthree)",
})  # fmt: skip
"""Boxes that work in the browser alone: they switch others on and off there."""

MAX_DEPTH = 32
"""How deep subgraphs may lie in each other."""


class Socket(NamedTuple):
    """An output: of which box (by its whole id), and which."""

    box: str
    slot: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """A value that stands in for a link: that of a primitive, or of a subgraph's own widget."""

    value: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """A box where it lies. id: with those of the subgraphs around it, `5:3`. around: their box, None outermost."""

    id: str
    box: Box
    graph: Graph
    around: Placed | None
    mode: int  # with that of the boxes around it


class Flat:
    """All boxes of a save that run, and what feeds their inputs."""

    def __init__(self, save: Save) -> None:
        self._subgraphs = save.subgraphs
        self._placed: dict[str, Placed] = {}
        self.too_deep: list[str] = []
        self._place(save.graph, None, "")
        self._setters = {
            _variable(each.box): each
            for each in self._placed.values()
            if each.box.type == "SetNode" and each.mode != MUTED
        }

    def running(self) -> Iterator[Placed]:
        """The boxes that become nodes."""
        for each in self._placed.values():
            if each.mode not in (MUTED, BYPASSED) and not self._is_virtual(each.box):
                yield each

    def fed_by(self, placed: Placed, index: int) -> Socket | Value | None:
        """What feeds an input: an output of a running box, a value, or nothing."""
        return self._follow_input(placed, index, frozenset())

    def _place(self, graph: Graph, around: Placed | None, prefix: str) -> None:
        for box in graph.boxes.values():
            mode = around.mode if around is not None and around.mode in (MUTED, BYPASSED) else box.mode
            placed = Placed(id=f"{prefix}{box.id}", box=box, graph=graph, around=around, mode=mode)
            self._placed[placed.id] = placed
            inner = self._subgraphs.get(box.type)
            if inner is not None:
                if prefix.count(":") >= MAX_DEPTH:
                    self.too_deep.append(placed.id)
                else:
                    self._place(inner, placed, f"{placed.id}:")

    def _is_virtual(self, box: Box) -> bool:
        return (
            box.type in NOTES | REROUTES | SWITCHBOARDS | {"PrimitiveNode", "GetNode", "SetNode"}
            or box.type in self._subgraphs
        )

    def _follow_input(self, placed: Placed, index: int, seen: frozenset[tuple[str, str, int]]) -> Socket | Value | None:
        number = placed.box.inputs[index].link
        link = None if number is None else placed.graph.links.get(number)
        if link is None:
            return None
        return self._follow_output(placed, link.origin, link.origin_slot, seen)

    def _follow_output(
        self, where: Placed, origin: str, slot: int, seen: frozenset[tuple[str, str, int]]
    ) -> Socket | Value | None:
        """What an output really is. `where`: a box beside the one that is meant."""
        around = where.around
        if origin == INPUTS_OF_SUBGRAPH and around is not None:
            return self._of_subgraph(around, where.graph, slot, seen)
        source = self._placed.get(f"{around.id}:{origin}" if around is not None else origin)
        if source is None or source.mode == MUTED:
            return None
        step = (source.id, origin, slot)
        if step in seen:
            return None
        return self._through(source, slot, seen | {step})

    def _of_subgraph(
        self, around: Placed, graph: Graph, slot: int, seen: frozenset[tuple[str, str, int]]
    ) -> Socket | Value | None:
        """What is given to a subgraph from outside, by a link or by a widget of its box."""
        if slot >= len(graph.inputs):
            return None
        name = graph.inputs[slot]
        for index, each in enumerate(around.box.inputs):
            if each.name == name and each.link is not None:
                return self._follow_input(around, index, seen)
        given = self._widget_values(around, graph)
        return Value(value=given[name]) if name in given else None

    def _widget_values(self, around: Placed, graph: Graph) -> Mapping[str, Any]:
        """The values of a subgraph's own widgets: a row for its inputs that lead to widgets within."""
        if around.box.named_values is not None:
            return around.box.named_values
        names = [name for slot, name in enumerate(graph.inputs) if _leads_to_widget(graph, slot)]
        row = around.box.values
        return dict(zip(names, row, strict=True)) if isinstance(row, list) and len(row) == len(names) else {}

    def _through(self, source: Placed, slot: int, seen: frozenset[tuple[str, str, int]]) -> Socket | Value | None:
        box = source.box
        inner = self._subgraphs.get(box.type)
        if source.mode == BYPASSED:
            return self._bypass(source, slot, seen)
        if inner is not None:
            return self._into(source, inner, slot, seen)
        if box.type in REROUTES or box.type == "SetNode":
            return self._follow_input(source, 0, seen) if box.inputs else None
        if box.type == "GetNode":
            setter = self._setters.get(_variable(box))
            return self._follow_input(setter, 0, seen) if setter is not None and setter.box.inputs else None
        if box.type == "PrimitiveNode":
            row = box.values
            return Value(value=row[0]) if isinstance(row, list) and row else None
        return Socket(source.id, slot)

    def _into(
        self, source: Placed, inner: Graph, slot: int, seen: frozenset[tuple[str, str, int]]
    ) -> Socket | Value | None:
        """What a subgraph gives at one of its outputs."""
        for link in inner.links.values():
            if link.target == OUTPUTS_OF_SUBGRAPH and link.target_slot == slot:
                inside = next((each for each in self._placed.values() if each.around is source), None)
                return self._follow_output(inside, link.origin, link.origin_slot, seen) if inside else None
        return None

    def _bypass(self, source: Placed, slot: int, seen: frozenset[tuple[str, str, int]]) -> Socket | Value | None:
        """A bypassed box hands on the input of the output's type: that of the same place, else the first linked one."""
        types = source.box.output_types
        wanted = types[slot] if slot < len(types) else None
        inputs = source.box.inputs
        order = sorted(range(len(inputs)), key=lambda index: index != slot)
        for index in order:
            if inputs[index].link is not None and _same_type(inputs[index].type, wanted):
                return self._follow_input(source, index, seen)
        return None


def _same_type(given: Any, wanted: Any) -> bool:
    return given == wanted or "*" in (given, wanted)


def _variable(box: Box) -> str:
    """The name under which Set and Get boxes meet."""
    values = box.values
    named = values[0] if isinstance(values, list) and values else box.properties.get("previousName")
    return str(named)


def _leads_to_widget(graph: Graph, slot: int) -> bool:
    for link in graph.links.values():
        if link.origin != INPUTS_OF_SUBGRAPH or link.origin_slot != slot:
            continue
        box = graph.boxes.get(link.target)
        if box is not None and link.target_slot < len(box.inputs) and box.inputs[link.target_slot].widget:
            return True
    return False
