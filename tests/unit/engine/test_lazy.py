"""Lazy inputs: made only when wanted, asked again until nothing is missing."""

from __future__ import annotations

from typing import Annotated, Any

import pytest

from limner.engine.blocker import ExecutionBlocker
from limner.engine.cache import OutputCache
from limner.engine.events import RunFailed, RunSucceeded
from limner.engine.library import NodeLibrary
from limner.engine.policy import CachePolicy
from limner.graph.kinds import Result
from limner.graph.node import node
from limner.graph.spec import OutputSpec
from limner.graph.types import Socket
from tests.unit.engine.runs import Bench

Anything = Annotated[Any, Socket("*")]
Lazily = Annotated[Any, Socket("*", {"lazy": True})]
ASKED: list[Any] = []


@pytest.fixture(autouse=True)
def _nothing_asked() -> None:
    ASKED.clear()


@node("Value", category="toy", outputs=("*",))
def value(*, v: Anything) -> Any:
    return v


@node("Spread", category="toy", outputs=(OutputSpec(name="items", type="*", is_list=True),))
def spread(*, items: Anything) -> Any:
    return items["all"]


def one_after_the_other(first: Any, second: Any, wish: Any) -> list[str]:
    ASKED.append((first, second))
    if wish == "all":
        return [name for name, given in (("first", first), ("second", second)) if given is None][:1]
    return [wish]


@node("Choose", category="toy", outputs=("*",), lazy=one_after_the_other)
def choose(*, wish: Anything, first: Lazily = None, second: Lazily = None) -> Any:
    return (first, second)


def ask_lists(wish: Any, first: Any) -> list[str]:
    ASKED.append((wish, first))
    return ["first"]


@node("ChooseLists", category="toy", outputs=("*",), lazy=ask_lists, input_is_list=True)
def choose_lists(*, wish: Anything, first: Lazily) -> Any:
    return first


async def ask_later(first: Any) -> list[str | None]:
    return ["first", None]


@node("ChooseLater", category="toy", outputs=("*",), lazy=ask_later)
def choose_later(*, first: Lazily, second: Lazily = "unasked") -> Any:
    return (first, second)


@node("TakeAll", category="toy", outputs=("*",))
def take_all(*, first: Lazily, second: Lazily) -> Any:
    return (first, second)


@node("Block", category="toy", outputs=("*",))
def block() -> Any:
    return ExecutionBlocker(None)


@node("Show", category="toy", outputs=(), output_node=True)
def show(*, v: Anything) -> Result:
    return Result(ui={"seen": [v]})


LIBRARY = NodeLibrary.of([value, spread, choose, choose_lists, choose_later, take_all, block, show])


def run(kind: str, inputs: dict[str, Any], *, policy: str = "classic", **more: Any) -> tuple[Bench, Any]:
    bench = Bench(library=LIBRARY, cache=OutputCache(policy=CachePolicy.parse(policy)))
    graph = {
        "1": {"class_type": "Value", "inputs": {"v": 10}},
        "2": {"class_type": "Value", "inputs": {"v": 20}},
        **more,
        "3": {"class_type": kind, "inputs": inputs},
        "4": {"class_type": "Show", "inputs": {"v": ["3", 0]}},
    }
    result = bench.run(graph, ("4",))
    seen = result.outputs.get("4", {}).get("seen")
    return bench, seen if isinstance(result.end, RunSucceeded) else result.end


LINKS: dict[str, Any] = {"first": ["1", 0], "second": ["2", 0]}


@pytest.mark.parametrize("policy", ["classic", "none"])
def test_only_what_is_wanted_is_made_and_the_rest_is_none(policy: str) -> None:
    bench, seen = run("Choose", {"wish": "second", **LINKS}, policy=policy)
    assert seen == [(None, 20)]
    assert bench.started == ["3", "2", "3", "4"]


@pytest.mark.parametrize("policy", ["classic", "none"])
def test_a_node_is_asked_until_it_misses_nothing(policy: str) -> None:
    bench, seen = run("Choose", {"wish": "all", **LINKS}, policy=policy)
    assert seen == [(10, 20)]
    assert ASKED == [(None, None), (10, None), (10, 20)]
    assert bench.started == ["3", "1", "3", "2", "3", "4"]


@pytest.mark.parametrize("policy", ["classic", "none"])
def test_what_another_node_needs_anyway_is_not_made_twice(policy: str) -> None:
    more: dict[str, Any] = {"0": {"class_type": "Value", "inputs": {"v": ["1", 0]}}}
    bench, seen = run("Choose", {"wish": "first", "first": ["1", 0], "second": ["0", 0]}, policy=policy, **more)
    assert seen == [(10, None)]
    assert sorted(bench.started) == ["1", "3", "3", "4"]


@pytest.mark.parametrize(
    ("wish", "message"), [("wish", "has a value of its own"), ("third", "is not there"), ("second", "is not there")]
)
def test_asking_for_what_is_no_link_is_an_error(wish: str, message: str) -> None:
    _, end = run("Choose", {"wish": wish, "first": ["1", 0]})
    assert isinstance(end, RunFailed)
    assert message in end.exception_message


def test_a_node_of_lists_gets_a_list_of_none() -> None:
    _, seen = run("ChooseLists", {"wish": 1, "first": ["1", 0]})
    assert (ASKED, seen) == ([([1], [None]), ([1], [10])], [[10]])


def test_each_item_is_asked() -> None:
    more: dict[str, Any] = {"5": {"class_type": "Spread", "inputs": {"items": {"all": ["first", "second"]}}}}
    _, seen = run("Choose", {"wish": ["5", 0], **LINKS}, **more)
    assert seen == [(10, 20), (10, 20)]
    assert ASKED == [(None, None), (None, None), (10, 20), (10, 20)]


def test_an_async_answer_is_awaited() -> None:
    _, seen = run("ChooseLater", LINKS)
    assert seen == [(10, None)]


def test_without_a_function_that_tells_all_are_made() -> None:
    _, seen = run("TakeAll", LINKS)
    assert seen == [(10, 20)]


def test_a_blocked_node_is_not_asked() -> None:
    more: dict[str, Any] = {"5": {"class_type": "Block", "inputs": {}}}
    bench, _ = run("Choose", {"wish": ["5", 0], **LINKS}, **more)
    assert ASKED == []
    assert bench.started == ["5", "3", "4"]


def test_a_wanted_input_that_is_blocked_blocks_the_node() -> None:
    more: dict[str, Any] = {"5": {"class_type": "Block", "inputs": {}}}
    bench, _ = run("Choose", {"wish": "first", "first": ["5", 0]}, **more)
    assert bench.started == ["3", "5", "3", "4"]


def test_lazy_nodes_that_want_each_other_are_a_cycle() -> None:
    bench = Bench(library=LIBRARY)
    graph = {
        "1": {"class_type": "Choose", "inputs": {"wish": "first", "first": ["2", 0]}},
        "2": {"class_type": "Choose", "inputs": {"wish": "first", "first": ["1", 0]}},
        "3": {"class_type": "Show", "inputs": {"v": ["1", 0]}},
    }
    end = bench.run(graph, ("3",)).end
    assert isinstance(end, RunFailed)
    assert end.exception_type == "graph.DependencyCycleError"
