"""Lists between nodes: calls for each item, shorter lists that repeat their last, whole lists, joined outputs."""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limner.engine.blocker import ExecutionBlocker
from limner.engine.context import RunContext
from limner.engine.events import RunFailed, RunInterrupted, RunSucceeded
from limner.engine.library import NodeLibrary
from limner.engine.mapping import calls, joined, joined_ui
from limner.graph.kinds import Result
from limner.graph.node import node
from limner.graph.spec import OutputSpec
from limner.graph.types import Socket
from tests.unit.engine.runs import Bench

Anything = Annotated[Any, Socket("*")]
LISTED = (OutputSpec(name="items", type="*", is_list=True),)


@node("Spread", category="toy", outputs=LISTED)
def spread(*, items: Anything) -> Any:
    return items["all"]


@node("Pair", category="toy", outputs=("*",))
def pair(*, a: Anything, b: Anything = "no b") -> Any:
    return (a, b)


@node("Show", category="toy", outputs=(), output_node=True, input_is_list=True)
def show(*, v: Anything) -> Result:
    return Result(ui={"seen": [v]})


@node("ShowEach", category="toy", outputs=(), output_node=True)
def show_each(ctx: RunContext, *, v: Anything) -> Result:
    return Result(ui={"seen": [v], "at": [ctx.list_index]} if v != "second key" else {"more": [1], "seen": [v]})


LIBRARY = NodeLibrary.of([spread, pair, show, show_each])


def run(workflow: dict[str, tuple[str, dict[str, Any]]], output: str = "out") -> Any:
    bench = Bench(library=LIBRARY)
    graph = {name: {"class_type": kind, "inputs": inputs} for name, (kind, inputs) in workflow.items()}
    result = bench.run(graph, (output,))
    return result.outputs[output]["seen"] if isinstance(result.end, RunSucceeded) else result.end


def spread_of(*items: Any) -> tuple[str, dict[str, Any]]:
    return "Spread", {"items": {"all": list(items)}}


def test_a_shorter_list_repeats_its_last_item() -> None:
    seen = run({"1": spread_of(1, 2, 3), "2": spread_of("x", "y"), "3": ("Pair", {"a": ["1", 0], "b": ["2", 0]}),
                "out": ("Show", {"v": ["3", 0]})})  # fmt: skip
    assert seen == [[(1, "x"), (2, "y"), (3, "y")]]


def test_an_absent_optional_input_is_not_passed() -> None:
    seen = run({"1": spread_of(1, 2), "3": ("Pair", {"a": ["1", 0]}), "out": ("Show", {"v": ["3", 0]})})
    assert seen == [[(1, "no b"), (2, "no b")]]


def test_an_empty_list_alone_means_no_call_and_beside_others_an_error() -> None:
    assert run({"1": spread_of(), "3": ("Pair", {"a": ["1", 0]}), "out": ("Show", {"v": ["3", 0]})}) == [[]]
    end = run({"1": spread_of(), "3": ("Pair", {"a": ["1", 0], "b": 1}), "out": ("Show", {"v": ["3", 0]})})
    assert isinstance(end, RunFailed)
    assert (end.exception_type, end.node.id, end.current_inputs) == ("IndexError", "3", {"a": [], "b": [1]})


def test_a_lists_ui_is_joined_by_the_keys_of_the_first_call() -> None:
    bench = Bench(library=LIBRARY)
    graph = {
        "1": {"class_type": "Spread", "inputs": {"items": {"all": ["a", "second key", "c"]}}},
        "out": {"class_type": "ShowEach", "inputs": {"v": ["1", 0]}},
    }
    assert bench.run(graph, ("out",)).outputs == {"out": {"seen": ["a", "second key", "c"], "at": [0, 2]}}


def test_what_should_be_a_list_and_is_none_is_the_nodes_failure() -> None:
    end = run({"1": ("Spread", {"items": {"all": "text"}}), "out": ("Show", {"v": ["1", 0]})})
    assert isinstance(end, RunFailed)
    assert end.exception_message == "output items must be a list, not str\n"


def test_an_interrupt_is_heard_before_each_item() -> None:
    done: list[Any] = []

    @node("Note", category="toy", outputs=("*",), output_node=True)
    def note(*, v: Anything) -> Any:
        done.append(v)
        return v

    bench = Bench(library=NodeLibrary.of([spread, note]))
    graph = {
        "1": {"class_type": "Spread", "inputs": {"items": {"all": [1, 2, 3]}}},
        "2": {"class_type": "Note", "inputs": {"v": ["1", 0]}},
    }
    assert isinstance(bench.run(graph, ("2",), interrupted=lambda: len(done) == 2).end, RunInterrupted)
    assert done == [1, 2]


lists = st.dictionaries(st.sampled_from("abcd"), st.lists(st.integers(), min_size=1, max_size=5), max_size=4)


@given(inputs=lists)
def test_there_are_as_many_calls_as_the_longest_list_is_long_and_each_takes_its_item_or_the_last(
    inputs: dict[str, list[int]],
) -> None:
    made = calls(inputs, whole=False)
    assert len(made) == max(map(len, inputs.values()), default=1)
    for index, arguments in enumerate(made):
        assert arguments == {name: items[min(index, len(items) - 1)] for name, items in inputs.items()}


@given(inputs=lists)
def test_whole_lists_are_passed_in_one_call(inputs: dict[str, list[int]]) -> None:
    assert calls(inputs, whole=True) == [inputs]


@given(given=st.lists(st.tuples(st.lists(st.integers(), max_size=4), st.integers()), max_size=5))
def test_list_outputs_are_chained_and_others_collected(given: list[tuple[list[int], int]]) -> None:
    outputs = (OutputSpec(name="many", type="*", is_list=True), OutputSpec(name="one", type="*"))
    many, one = joined([Result(values=values) for values in given], outputs)
    assert many == [item for items, _ in given for item in items]
    assert one == [value for _, value in given]


def test_a_blocker_in_place_of_a_list_is_one_item() -> None:
    blocker = ExecutionBlocker(None)
    assert joined([Result(values=(blocker,)), Result(values=([1, 2],))], LISTED) == ([blocker, 1, 2],)


def test_values_that_are_not_declared_are_left_out_and_missing_ones_are_no_slot() -> None:
    outputs = (OutputSpec(name="a", type="*"), OutputSpec(name="b", type="*"))
    assert joined([Result(values=(1, 2, 3))], outputs) == ([1], [2])
    assert joined([Result(values=(1,))], outputs) == ([1],)


@pytest.mark.parametrize("value", [1, "text", {"a": 1}])
def test_ui_that_is_no_list_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match="must be a list"):
        joined_ui([Result(ui={"text": value})])
