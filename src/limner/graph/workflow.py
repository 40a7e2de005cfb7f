"""A workflow as data: nodes and links, in the API format of ComfyUI, in and out. Immutable."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

from limner.errors import WorkflowInvalid, WorkflowIsEditorFormat

MAX_NESTING = 64
"""How deep a value inside a node may be nested. Links between nodes may be as long a chain as they like."""
MAX_BITS = 4096
"""How large a whole number may be: more than enough for every float, and Python still prints it."""

HOW_TO_EXPORT = (
    "This is the editor's save format, which only the editor can read. "
    "Export the workflow in the API format instead: Workflow > Export (API) in the editor's menu. "
    "`limner convert` makes it from the saved file, too."
)


class Link(NamedTuple):
    """An input fed by an output of another node."""

    node_id: str
    slot: int


def as_link(value: Any) -> Link | None:
    """The link that an input's value stands for; None for a literal."""
    if isinstance(value, list) and len(value) == 2 and isinstance(value[0], str) and type(value[1]) is int:
        return Link(value[0], value[1])
    return None


def unwrapped(value: Any) -> Any:
    """The literal inside `{"__value__": ...}`, the form in which a list passes as a literal and not as a link."""
    return value["__value__"] if isinstance(value, dict) and "__value__" in value else value


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A box of the workflow. `inputs` hold literals and links as they came; `other` the keys that nobody asked for."""

    id: str
    class_type: str
    inputs: Mapping[str, Any]
    other: Mapping[str, Any] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """The name that the author gave the box, else its class."""
        meta = self.other.get("_meta")
        title = meta.get("title") if isinstance(meta, dict) else None
        return title if isinstance(title, str) else self.class_type

    def links(self) -> Iterator[tuple[str, Link]]:
        """The linked inputs by name, in the order of the workflow."""
        for name, value in self.inputs.items():
            link = as_link(value)
            if link is not None:
                yield name, link

    def literals(self) -> dict[str, Any]:
        """The inputs that are no links."""
        return {name: unwrapped(value) for name, value in self.inputs.items() if as_link(value) is None}


@dataclass(frozen=True, slots=True)
class Workflow:
    """A graph as submitted: nodes by id, in the order in which they came."""

    nodes: Mapping[str, Node]

    @classmethod
    def parse(cls, raw: Any) -> Workflow:
        """Reads the API format. Whether classes exist and inputs fit is for `validate` to say.

        Raises WorkflowIsEditorFormat for the editor's save format, WorkflowInvalid where it is no graph of nodes.
        """
        check_shape(raw)
        nodes = {}
        for node_id, entry in raw.items():
            inputs = entry.get("inputs", {})
            if not isinstance(inputs, dict):
                raise WorkflowInvalid(
                    "invalid_prompt", "The inputs of a node must be an object.", f"Node ID '#{node_id}'"
                )
            other = {name: value for name, value in entry.items() if name not in ("class_type", "inputs")}
            nodes[node_id] = Node(id=node_id, class_type=entry["class_type"], inputs=inputs, other=other)
        return cls(MappingProxyType(nodes))

    def to_json(self) -> dict[str, Any]:
        """The API format again, with all that came in."""
        return {
            node.id: {"class_type": node.class_type, "inputs": dict(node.inputs), **node.other}
            for node in self.nodes.values()
        }


def check_shape(raw: Any) -> None:
    """Raises WorkflowInvalid unless `raw` is an object of nodes that each name a class, fit to be kept and shown."""
    if is_editor_format(raw):
        raise WorkflowIsEditorFormat("invalid_prompt", HOW_TO_EXPORT)
    if raw is None:
        raise WorkflowInvalid("no_prompt", "No prompt provided", "No prompt provided")
    if raw == []:
        raise WorkflowInvalid("prompt_no_outputs", "Prompt has no outputs")
    if not isinstance(raw, dict):
        raise WorkflowInvalid("invalid_prompt", "The prompt must be an object of nodes by id.", f"It is {_kind(raw)}.")
    for node_id, entry in raw.items():
        fault = unfit(entry) or (None if _is_text(node_id) else "text that is not valid Unicode")
        if fault is not None:
            where = node_id.encode("utf-8", "replace").decode()
            raise WorkflowInvalid(
                "invalid_prompt", f"Cannot execute because a node holds {fault}.", f"Node ID '#{where}'"
            )
        if not isinstance(entry, dict) or "class_type" not in entry:
            raise WorkflowInvalid(
                "invalid_prompt",
                "Cannot execute because a node is missing the class_type property.",
                f"Node ID '#{node_id}'",
            )
        if not isinstance(entry["class_type"], str):
            raise unknown_class(entry["class_type"], node_id)


def unknown_class(class_type: Any, node_id: str) -> WorkflowInvalid:
    """A node of a class that the catalogue does not have."""
    message = f"Cannot execute because node {class_type} does not exist."
    return WorkflowInvalid("invalid_prompt", message, f"Node ID '#{node_id}'")


def is_editor_format(raw: Any) -> bool:
    """Whether this is what the editor saves: lists of nodes and links in place of nodes by id."""
    if not isinstance(raw, dict) or not isinstance(raw.get("nodes"), list):
        return False
    return isinstance(raw.get("links"), list) or "last_node_id" in raw


def unfit(value: Any) -> str | None:
    """What makes JSON data impossible to keep or to answer with: nested too deep, or text that no encoding can hold."""
    level = [value]
    for _ in range(MAX_NESTING + 2):
        if not level:
            return None
        inner: list[Any] = []
        for here in level:
            if isinstance(here, str):
                if not _is_text(here):
                    return "text that is not valid Unicode"
            elif isinstance(here, int):
                if here.bit_length() > MAX_BITS:
                    return "a number too large to be written"
            elif isinstance(here, list):
                inner.extend(here)
            elif isinstance(here, dict):
                inner.extend(here)
                inner.extend(here.values())
        level = inner
    return f"values nested more than {MAX_NESTING} deep"


def holds_infinity(value: Any) -> bool:
    """Whether NaN or an infinity stands anywhere inside; `value` must not be nested deep."""
    if isinstance(value, float):
        return not math.isfinite(value)
    if isinstance(value, dict):
        return any(map(holds_infinity, value.values()))
    return isinstance(value, list) and any(map(holds_infinity, value))


def _is_text(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _kind(raw: Any) -> str:
    names = {bool: "true or false", int: "a number", float: "a number", str: "a text", list: "a list"}
    return names.get(type(raw), type(raw).__name__)
