"""Graphs that run in a node's place: ids, values, caching, faults, and what of them is told."""

from __future__ import annotations

from typing import Annotated, Any

import pytest

from limner.engine.cache import OutputCache
from limner.engine.context import RunContext
from limner.engine.events import NodeFinished, NodeOutput, NodeRef, RunFailed, RunSucceeded
from limner.engine.graph_builder import GraphBuilder
from limner.engine.library import NodeLibrary
from limner.engine.policy import CachePolicy
from limner.graph.kinds import Result
from limner.graph.node import node
from limner.graph.spec import OutputSpec
from limner.graph.types import Socket
from tests.unit.engine.runs import Bench

Anything = Annotated[Any, Socket("*")]
Raw = Annotated[Any, Socket("*", {"rawLink": True})]
CALLS: list[str] = []


@pytest.fixture(autouse=True)
def _no_calls() -> None:
    CALLS.clear()


@node("Value", category="toy", outputs=("*",))
def value(ctx: RunContext, *, v: Anything) -> Any:
    CALLS.append(f"Value {ctx.node.id}")
    return v


@node("Add", category="toy", outputs=("*",))
def add(*, a: Anything, b: Anything) -> Any:
    if a == "raise":
        raise ValueError("cannot add")
    return a + b


@node("Show", category="toy", outputs=(), output_node=True)
def show(*, v: Anything) -> Result:
    return Result(ui={"seen": [v]})


@node("Spread", category="toy", outputs=(OutputSpec(name="items", type="*", is_list=True),))
def spread(*, items: Anything) -> Any:
    return items["all"]


@node("Twice", category="toy", outputs=("*",))
def twice(*, v: Raw) -> Result:
    """v + v, by a graph that takes the link itself."""
    CALLS.append("Twice")
    graph = GraphBuilder()
    return Result(values=(graph.node("Add", a=v, b=v).out(0),), expand=graph.finalize())


@node("Sum", category="toy", outputs=("*",))
def sum_up(*, first: Anything, count: Anything) -> Result:
    """first + count + (count - 1) + ... + 1, by graphs in graphs."""
    CALLS.append("Sum")
    if count == 0:
        return Result(values=(first,))
    graph = GraphBuilder()
    added = graph.node("Add", a=first, b=count)
    return Result(values=(graph.node("Sum", first=added.out(0), count=count - 1).out(0),), expand=graph.finalize())


@node("Show2", category="toy", outputs=("*",))
def show_twice(ctx: RunContext, *, v: Anything) -> Result:
    """Output nodes in its place, and something to show itself."""
    graph = GraphBuilder()
    graph.node("Show", v=v)
    other = graph.node("Show", id="named", v=[f"{ctx.node.id}.0.0.value", 0])
    other.set_override_display_id("9")
    graph.node("Value", id="value", v=v + 1)
    return Result(values=("plain",), ui={"own": [1]}, expand=graph.finalize())


@node("Free", category="toy", outputs=("*",))
def free(*, graph: Anything, result: Anything) -> Result:
    return Result(values=(result["v"],), expand=graph)


LIBRARY = NodeLibrary.of([value, add, show, spread, twice, sum_up, show_twice, free])


def bench(policy: str = "classic") -> Bench:
    return Bench(library=LIBRARY, cache=OutputCache(policy=CachePolicy.parse(policy)))


def graph(**nodes: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    return {name[1:]: {"class_type": kind, "inputs": inputs} for name, (kind, inputs) in nodes.items()}


def twice_of(v: Any) -> dict[str, Any]:
    return graph(n1=("Value", {"v": v}), n2=("Twice", {"v": ["1", 0]}), n3=("Show", {"v": ["2", 0]}))


@pytest.mark.parametrize("policy", ["classic", "none"])
def test_a_raw_link_goes_on_into_the_graph(policy: str) -> None:
    here = bench(policy)
    assert here.run(twice_of(21), ("3",)).outputs == {"3": {"seen": [42]}}
    assert here.started == ["1", "2", "2.0.0.1", "3"]


def test_a_cached_parent_does_not_expand_again() -> None:
    here = bench()
    here.run(twice_of(1), ("3",))
    here.run(twice_of(1), ("3",))
    assert here.started == []
    assert CALLS == ["Value 1", "Twice"]


@pytest.mark.parametrize("policy", ["classic", "none", "lru=3"])
def test_graphs_in_graphs(policy: str) -> None:
    here = bench(policy)
    result = here.run(graph(n1=("Sum", {"first": 0, "count": 30}), n2=("Show", {"v": ["1", 0]})), ("2",))
    assert result.outputs == {"2": {"seen": [465]}}
    assert CALLS.count("Sum") == 31
    refs = {event.node.id: event.node for event in here.events if isinstance(event, NodeFinished)}
    assert refs["1.0.0.2.0.0.1"] == NodeRef(id="1.0.0.2.0.0.1", display="1", parent="1.0.0.2", real="1")


def test_each_call_of_a_list_has_a_graph_of_its_own_and_values_of_both_kinds_are_joined() -> None:
    here = bench()
    workflow = graph(
        n1=("Spread", {"items": {"all": [0, 2]}}),
        n2=("Sum", {"first": 5, "count": ["1", 0]}),
        n3=("Show", {"v": ["2", 0]}),
    )
    assert here.run(workflow, ("3",)).outputs == {"3": {"seen": [5, 8]}}
    assert "2.1.0.1" in here.started


def test_output_nodes_of_a_graph_run_and_are_shown_where_they_say() -> None:
    here = bench()
    workflow = graph(n1=("Show2", {"v": 7}), n2=("Show", {"v": ["1", 0]}))
    for _ in range(2):
        result = here.run(workflow, ("2",))
        assert result.outputs == {
            "1": {"own": [1]},
            "2": {"seen": ["plain"]},
            "1.0.0.1": {"seen": [7]},
            "1.0.0.named": {"seen": [8]},
        }
        assert result.meta["1.0.0.named"] == {
            "node_id": "1.0.0.named", "display_node": "9", "parent_node": "1", "real_node_id": "1",
        }  # fmt: skip
    here = bench()
    here.run(workflow, ("2",))
    shown = [event.node.id for event in here.events if isinstance(event, NodeOutput)]
    assert shown[0] == "1"
    assert set(shown) == {"1", "2", "1.0.0.1", "1.0.0.named"}


def test_a_fault_in_a_graph_names_the_node_of_the_workflow() -> None:
    here = bench()
    end = here.run(twice_of("raise"), ("3",)).end
    assert isinstance(end, RunFailed)
    assert (end.node.real, end.node.id, end.node_type) == ("2", "2.0.0.1", "Twice")
    assert (end.exception_type, end.current_inputs) == ("ValueError", {"a": ["raise"], "b": ["raise"]})


def test_what_a_graph_made_before_a_fault_is_not_made_again() -> None:
    here = bench()
    parts = {
        "v": {"class_type": "Value", "inputs": {"v": "raise"}},
        "s": {"class_type": "Add", "inputs": {"a": ["v", 0], "b": 1}},
    }
    workflow = graph(n1=("Free", {"graph": parts, "result": {"v": ["s", 0]}}), n2=("Show", {"v": ["1", 0]}))
    for _ in range(2):
        assert isinstance(here.run(workflow, ("2",)).end, RunFailed)
    assert CALLS == ["Value v"]


def test_what_a_graph_made_is_dropped_with_its_parent() -> None:
    here = bench()
    here.run(twice_of(1), ("3",))
    assert len(here.cache) == 4
    here.run(graph(n3=("Show", {"v": 1})), ("3",))
    assert len(here.cache) == 1


def test_a_retracted_run_makes_the_outputs_within_a_graph_again() -> None:
    here = bench()
    workflow = graph(n1=("Show2", {"v": 7}), n2=("Show", {"v": ["1", 0]}))
    here.run(workflow, ("2",))
    here.executor.retract()
    here.run(workflow, ("2",))
    assert {"1", "2", "1.0.0.1", "1.0.0.named"} <= set(here.started)
    assert "1.0.0.value" not in here.started


@pytest.mark.parametrize(
    ("parts", "result", "message"),
    [
        ({"1": {"class_type": "Value", "inputs": {"v": 1}}}, 1, "but the workflow has one already"),
        ({"x": {"inputs": {}}}, 1, "'x' is no node with a class_type"),
        ({"x": {"class_type": "Value", "inputs": [1]}}, 1, "the inputs of 'x' are no object"),
        ({"x": {"class_type": "Gone", "inputs": {}}}, ["x", 0], "this worker has no node Gone"),
        ({"x": {"class_type": "Value", "inputs": {"v": 1}}}, ["y", 0], "links to node y, which does not exist"),
        ({"x": {"class_type": "Value", "inputs": {"v": 1}}}, ["x", 5], "links to output 5 of node x"),
        ({"x": {"class_type": "Value", "inputs": {"v": ["2", 0]}}}, ["x", 0], "Dependency cycle detected"),
        ({"x": {"class_type": "Value", "inputs": {"v": ["x", 0]}}}, ["x", 0], "Dependency cycle detected"),
    ],
)
def test_a_graph_that_cannot_run_fails_the_node_in_whose_place_it_is(parts: Any, result: Any, message: str) -> None:
    here = bench()
    workflow = graph(n1=("Free", {"graph": parts, "result": {"v": result}}), n2=("Show", {"v": ["1", 0]}))
    end = here.run(workflow, ("2",)).end
    assert isinstance(end, RunFailed)
    assert message in end.exception_message
    assert end.node.real == "1"


def test_a_graph_may_hold_objects_that_no_json_has() -> None:
    here = bench()
    thing = object()
    parts = {"x": {"class_type": "Value", "inputs": {"v": thing}}}
    workflow = graph(n1=("Free", {"graph": parts, "result": {"v": ["x", 0]}}), n2=("Value", {"v": ["1", 0]}))
    assert isinstance(here.run(workflow, ("2",)).end, RunSucceeded)


def test_a_graph_may_ask_again_for_what_was_let_go() -> None:
    """Without a cache: the node that the graph links to was done and its value freed."""
    here = bench("none")
    parts = {"x": {"class_type": "Value", "inputs": {"v": ["5", 0]}}}
    workflow = graph(
        n5=("Value", {"v": 3}),
        n6=("Show", {"v": ["5", 0]}),
        n1=("Free", {"graph": parts, "result": {"v": ["x", 0]}}),
        n2=("Show", {"v": ["1", 0]}),
        n0=("Show", {"v": ["6", 0]}),
    )
    assert here.run(workflow, ("6", "2")).outputs == {"6": {"seen": [3]}, "2": {"seen": [3]}}


def test_the_running_workflow_knows_the_nodes_of_graphs() -> None:
    here = bench()
    here.run(twice_of(1), ("3",))
    prompt = here.ctx.dynprompt
    assert prompt.all_node_ids() == {"1", "2", "3", "2.0.0.1"}
    assert prompt.get_node("2.0.0.1") == {"class_type": "Add", "inputs": {"a": ["1", 0], "b": ["1", 0]}}
    assert prompt.has_node("2.0.0.1")
    assert not prompt.has_node("2.0.0.2")
    with pytest.raises(Exception, match=r"Node 2\.0\.0\.2 not found"):
        prompt.get_node("2.0.0.2")
