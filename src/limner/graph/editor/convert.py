"""The editor's save format into the API format, with the classes of a catalogue."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from limner.errors import WorkflowInvalid
from limner.graph.editor.flat import Flat, Placed, Socket, Value
from limner.graph.editor.save import parse
from limner.graph.editor.widgets import UnclearWidgets, is_widget, values_of
from limner.graph.spec import NodeSpec

FindSpec = Callable[[str], NodeSpec | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A box that could not be converted, and why."""

    node_id: str
    class_type: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversion:
    """The workflow in the API format, without the boxes that `problems` names."""

    workflow: dict[str, Any]
    problems: tuple[Problem, ...]

    def checked(self) -> dict[str, Any]:
        """The workflow. Raises WorkflowInvalid with every problem where there is one."""
        if not self.problems:
            return self.workflow
        lines = "\n".join(f"  node {each.node_id} ({each.class_type}): {each.reason}" for each in self.problems)
        count = f"{len(self.problems)} of its nodes" if len(self.problems) > 1 else "one of its nodes"
        raise WorkflowInvalid(
            "invalid_prompt", f"The saved workflow cannot be converted because of {count}:\n{lines}", hint=""
        )


def convert(raw: Mapping[str, Any], find: FindSpec) -> Conversion:
    """Converts what the editor saved. Notes, muted nodes and what only the browser does are left out.

    Nodes within subgraphs get the ids of both, `5:3`. find: the spec of a class, None where there is no such class.
    Raises WorkflowInvalid for a damaged file.
    """
    flat = Flat(parse(raw))
    workflow: dict[str, Any] = {}
    problems = [
        Problem(node_id=each, class_type="subgraph", reason="its subgraphs lie in each other without end")
        for each in flat.too_deep
    ]
    for placed in flat.running():
        spec = find(placed.box.type)
        try:
            if spec is None:
                raise UnclearWidgets("this class is not in the catalogue; a node pack may be missing")
            inputs = _inputs(flat, placed, spec)
        except UnclearWidgets as unclear:
            problems.append(Problem(node_id=placed.id, class_type=placed.box.type, reason=str(unclear)))
            continue
        title = placed.box.title or spec.display_name or placed.box.type
        workflow[placed.id] = {"inputs": inputs, "class_type": placed.box.type, "_meta": {"title": title}}
    return Conversion(workflow=workflow, problems=tuple(problems))


def _inputs(flat: Flat, placed: Placed, spec: NodeSpec) -> dict[str, Any]:
    given = {name: _literal(value) for name, value in values_of(placed.box, spec).items()}
    for index, each in enumerate(placed.box.inputs):
        if each.link is None:
            continue
        name = each.widget or each.name
        match flat.fed_by(placed, index):
            case Socket(box, slot):
                given[name] = [box, slot]
            case Value(value=value):
                given[name] = _literal(value)
            case None if name in spec.input and not is_widget(spec.input[name]):
                given.pop(name, None)
    order = {name: place for place, name in enumerate(spec.input)}
    return dict(sorted(given.items(), key=lambda pair: order.get(pair[0].partition(".")[0], len(order))))


def _literal(value: Any) -> Any:
    """A list would be taken for a link."""
    return {"__value__": value} if isinstance(value, list) else value
