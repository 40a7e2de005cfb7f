"""Values that keep the nodes behind them from running."""

from __future__ import annotations

from typing import Annotated, Any

from limner.engine.blocker import ExecutionBlocker
from limner.engine.events import NodeBlocked, RunSucceeded
from limner.engine.library import NodeLibrary
from limner.graph.kinds import Result
from limner.graph.node import node
from limner.graph.spec import OutputSpec
from limner.graph.types import Socket
from tests.unit.engine.runs import Bench

Anything = Annotated[Any, Socket("*")]


@node("Block", category="toy", outputs=(OutputSpec(name="v", type="*"), OutputSpec(name="w", type="*", is_list=True)))
def block(*, message: Anything) -> Any:
    return ExecutionBlocker(message)


@node("BlockOdd", category="toy", outputs=("*",))
def block_odd(*, v: Anything) -> Any:
    return ExecutionBlocker("odd") if v % 2 else v


@node("Spread", category="toy", outputs=(OutputSpec(name="items", type="*", is_list=True),))
def spread(*, items: Anything) -> Any:
    return items["all"]


@node("Pass", category="toy", outputs=("*",))
def pass_on(*, v: Anything) -> Any:
    return v


@node("Whole", category="toy", outputs=("*",), input_is_list=True)
def whole(*, v: Anything) -> Any:
    return v


@node("Show", category="toy", outputs=(), output_node=True)
def show(*, v: Anything) -> Result:
    return Result(ui={"seen": [v]})


def run(**nodes: tuple[str, dict[str, Any]]) -> tuple[Bench, Any]:
    bench = Bench(library=NodeLibrary.of([block, block_odd, spread, pass_on, whole, show]))
    graph = {name[1:]: {"class_type": kind, "inputs": inputs} for name, (kind, inputs) in nodes.items()}
    outputs = tuple(node_id for node_id, each in graph.items() if each["class_type"] == "Show")
    result = bench.run(graph, outputs)
    assert isinstance(result.end, RunSucceeded)
    return bench, result


def told(bench: Bench) -> list[tuple[str, str]]:
    return [(event.node.id, event.message) for event in bench.events if isinstance(event, NodeBlocked)]


def test_a_message_is_told_at_the_first_blocked_node_and_not_again() -> None:
    bench, result = run(
        n1=("Block", {"message": "stop"}), n2=("Pass", {"v": ["1", 0]}), n3=("Pass", {"v": ["2", 0]}),
        n4=("Show", {"v": ["3", 0]}),
    )  # fmt: skip
    assert told(bench) == [("2", "stop")]
    assert result.outputs == {}
    assert bench.started == ["1", "2", "3", "4"]


def test_a_blocker_for_a_whole_return_is_in_every_output() -> None:
    bench, result = run(n1=("Block", {"message": None}), n2=("Show", {"v": ["1", 0]}), n3=("Show", {"v": ["1", 1]}))
    assert (told(bench), result.outputs) == ([], {})


def test_of_a_list_only_the_blocked_items_are_left_out() -> None:
    bench, result = run(
        n1=("Spread", {"items": {"all": [1, 2, 3, 4]}}), n2=("BlockOdd", {"v": ["1", 0]}), n3=("Show", {"v": ["2", 0]})
    )
    assert told(bench) == [("3", "odd"), ("3", "odd")]
    assert result.outputs == {"3": {"seen": [2, 4]}}


def test_one_blocked_item_blocks_a_node_that_takes_whole_lists() -> None:
    bench, result = run(
        n1=("Spread", {"items": {"all": [2, 3, 4]}}), n2=("BlockOdd", {"v": ["1", 0]}),
        n3=("Whole", {"v": ["2", 0]}), n4=("Show", {"v": ["3", 0]}),
    )  # fmt: skip
    assert (told(bench), result.outputs) == ([("3", "odd")], {})


def test_what_is_blocked_is_cached_as_blocked() -> None:
    bench, _ = run(n1=("Block", {"message": "stop"}), n2=("Show", {"v": ["1", 0]}))
    graph = {
        "1": {"class_type": "Block", "inputs": {"message": "stop"}},
        "2": {"class_type": "Show", "inputs": {"v": ["1", 0]}},
    }
    assert bench.run(graph, ("2",)).outputs == {}
    assert (bench.started, told(bench)) == ([], [])
