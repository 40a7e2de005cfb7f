"""GraphBuilder, as node packs use it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from limner.engine.context import RunContext, calling
from limner.engine.events import NodeRef
from limner.engine.graph_builder import GraphBuilder, GraphInvalid, add_graph_prefix, is_link
from tests.support.toys import ToyFiles


def test_ids_count_up_under_the_calls_prefix() -> None:
    ctx = RunContext(
        prompt_id="p", tenant="t", node=NodeRef.plain(""), prompt={}, extra_pnginfo=None, files=ToyFiles()
    ).at(NodeRef.plain("7"), 2)
    with calling(ctx):
        first, second = GraphBuilder(), GraphBuilder()
        assert [first.node("A").id, first.node("B").id, second.node("A", "x").id] == ["7.2.0.1", "7.2.0.2", "7.2.1.x"]
        GraphBuilder.set_default_prefix("root", 4)
        assert GraphBuilder().prefix == "root.4.0."
        assert GraphBuilder.alloc_prefix("r", 1, 2) == "r.1.2."
        assert GraphBuilder.alloc_prefix() == "root.4.2."
    with calling(ctx.at(NodeRef.plain("8"))):
        assert GraphBuilder().prefix == "8.0.0."


def test_a_graph_is_built_changed_and_given_out() -> None:
    graph = GraphBuilder("g.")
    made = graph.node("Make", id="m", size=4)
    used = graph.node("Use", v=made.out(0), other=5)
    used.set_input("more", made.out(1))
    used.set_input("other", None)
    used.set_input("absent", None)
    used.set_override_display_id("9")
    assert graph.node("Make", id="m") is made
    assert (graph.lookup_node("m"), graph.lookup_node("n")) == (made, None)
    assert (made.get_input("size"), made.get_input("nothing")) == (4, None)
    assert graph.finalize() == {
        "g.m": {"class_type": "Make", "inputs": {"size": 4}},
        "g.1": {
            "class_type": "Use",
            "inputs": {"v": ["g.m", 0], "more": ["g.m", 1]},
            "override_display_id": "9",
        },
    }


def test_outputs_are_replaced_and_nodes_removed() -> None:
    graph = GraphBuilder("")
    graph.node("Make", id="m")
    used = graph.node("Use", id="u", a=["m", 0], b=["m", 1], c=["m", 0])
    graph.replace_node_output("m", 0, ["x", 3])
    assert used.inputs == {"a": ["x", 3], "b": ["m", 1], "c": ["x", 3]}
    graph.replace_node_output("m", 1, None)
    assert used.inputs == {"a": ["x", 3], "c": ["x", 3]}
    graph.remove_node("m")
    assert list(graph.finalize()) == ["u"]


def test_one_id_cannot_be_two_classes() -> None:
    graph = GraphBuilder("")
    graph.node("Make", id="m")
    with pytest.raises(GraphInvalid, match="node m is a Make and cannot be a Use"):
        graph.node("Use", id="m")


@pytest.mark.parametrize(
    ("value", "expected"),
    [(["1", 0], True), (["1", 0.0], True), ([1, 0], False), (["1"], False), (("1", 0), False), (["1", True], False),
     (["1", "0"], False), (Path("1"), False)],
)  # fmt: skip
def test_what_a_link_is(value: Any, expected: bool) -> None:
    assert is_link(value) is expected


def test_a_prefix_goes_before_every_id_and_into_every_link() -> None:
    graph: dict[str, Any] = {"a": {"class_type": "A", "inputs": {"v": ["b", 1], "w": 2}}, "b": {"class_type": "B"}}
    assert add_graph_prefix(graph, (["a", 0], "plain"), "p.") == (
        {
            "p.a": {"class_type": "A", "inputs": {"v": ["p.b", 1], "w": 2}},
            "p.b": {"class_type": "B", "inputs": {}},
        },
        (["p.a", 0], "plain"),
    )
