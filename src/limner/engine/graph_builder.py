"""GraphBuilder: how a node makes the graph that is to run in its place. The names are those that node packs use."""

from __future__ import annotations

from typing import Any

from limner.engine.context import GraphPrefix, current_or_none
from limner.errors import LimnerError

Graph = dict[str, dict[str, Any]]

_outside = GraphPrefix("", 0)


class GraphInvalid(LimnerError):
    """A graph was built that cannot be: two nodes of one id."""

    code = "node_error"


def is_link(value: Any) -> bool:
    """Whether a value of a graph is a link: `[node id, slot]`."""
    return (
        isinstance(value, list)
        and len(value) == 2
        and isinstance(value[0], str)
        and isinstance(value[1], int | float)
        and not isinstance(value[1], bool)
    )


class GraphBuilder:
    """Collects nodes. Their ids begin with a prefix that no other graph of the run has: `PARENT.CALL.GRAPH.`"""

    def __init__(self, prefix: str | None = None) -> None:
        self.prefix = GraphBuilder.alloc_prefix() if prefix is None else prefix
        self.nodes: dict[str, GraphNode] = {}
        self.id_gen = 1

    @classmethod
    def set_default_prefix(cls, prefix_root: str, call_index: int, graph_index: int = 0) -> None:
        """What the prefixes of the next builders are made of. The engine does it by itself for each node call."""
        prefix = _prefix()
        prefix.root, prefix.call, prefix.graph = prefix_root, call_index, graph_index

    @classmethod
    def alloc_prefix(
        cls, root: str | None = None, call_index: int | None = None, graph_index: int | None = None
    ) -> str:
        """A new prefix; the graph's number counts up with each."""
        prefix = _prefix()
        parts = (
            prefix.root if root is None else root,
            prefix.call if call_index is None else call_index,
            prefix.graph if graph_index is None else graph_index,
        )
        prefix.graph += 1
        return "".join(f"{part}." for part in parts)

    def node(self, class_type: str, id: str | None = None, **kwargs: Any) -> GraphNode:
        """The node of this id, made if it is new; without an id always a new one. Raises GraphInvalid."""
        if id is None:
            id = str(self.id_gen)
            self.id_gen += 1
        full_id = self.prefix + id
        if full_id in self.nodes:
            if self.nodes[full_id].class_type != class_type:
                raise GraphInvalid(f"node {full_id} is a {self.nodes[full_id].class_type} and cannot be a {class_type}")
            return self.nodes[full_id]
        made = self.nodes[full_id] = GraphNode(full_id, class_type, kwargs)
        return made

    def lookup_node(self, id: str) -> GraphNode | None:
        return self.nodes.get(self.prefix + id)

    def finalize(self) -> Graph:
        """The graph in the API format, for `expand`."""
        return {node_id: node.serialize() for node_id, node in self.nodes.items()}

    def replace_node_output(self, node_id: str, index: int, new_value: Any) -> None:
        """Puts a value or link in place of every link to this output; None takes the linked inputs away."""
        old = [self.prefix + node_id, index]
        for node in self.nodes.values():
            for name in [name for name, value in node.inputs.items() if is_link(value) and value == old]:
                node.set_input(name, new_value)

    def remove_node(self, id: str) -> None:
        """KeyError where there is none."""
        del self.nodes[self.prefix + id]


class GraphNode:
    """A node of a graph that is being built."""

    def __init__(self, id: str, class_type: str, inputs: dict[str, Any]) -> None:
        self.id = id
        self.class_type = class_type
        self.inputs = inputs
        self.override_display_id: str | None = None

    def out(self, index: int) -> list[Any]:
        """A link to this output."""
        return [self.id, index]

    def set_input(self, key: str, value: Any) -> None:
        if value is None:
            self.inputs.pop(key, None)
        else:
            self.inputs[key] = value

    def get_input(self, key: str) -> Any:
        return self.inputs.get(key)

    def set_override_display_id(self, override_display_id: str) -> None:
        """The node at which the editor shows this one, in place of the one that expands."""
        self.override_display_id = override_display_id

    def serialize(self) -> dict[str, Any]:
        made: dict[str, Any] = {"class_type": self.class_type, "inputs": self.inputs}
        if self.override_display_id is not None:
            made["override_display_id"] = self.override_display_id
        return made


def add_graph_prefix(graph: Graph, outputs: tuple[Any, ...] | list[Any], prefix: str) -> tuple[Graph, tuple[Any, ...]]:
    """A graph with the prefix before every id, and these outputs with their links changed alike."""

    def moved(value: Any) -> Any:
        return [prefix + value[0], value[1]] if is_link(value) else value

    nodes = {
        prefix + node_id: {**node, "inputs": {name: moved(value) for name, value in node.get("inputs", {}).items()}}
        for node_id, node in graph.items()
    }
    return nodes, tuple(map(moved, outputs))


def _prefix() -> GraphPrefix:
    ctx = current_or_none()
    return _outside if ctx is None else ctx.graph_prefix
