"""Any graph of any nodes: each runs once, after what feeds it, and gives the same whatever is kept between runs."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from hypothesis import given, settings
from hypothesis import strategies as st

from limner.engine.cache import OutputCache
from limner.engine.events import NodeFinished, NodeStarted, RunSucceeded
from limner.engine.graph_builder import GraphBuilder
from limner.engine.library import NodeLibrary
from limner.engine.policy import CachePolicy
from limner.graph.kinds import Result
from limner.graph.node import node
from limner.graph.spec import OutputSpec
from limner.graph.types import Int, Socket
from tests.unit.engine.runs import Bench

Anything = Annotated[Any, Socket("*")]
Lazily = Annotated[Any, Socket("*", {"lazy": True})]
Salt = Annotated[int, Int()]

POLICIES = [
    CachePolicy(),
    CachePolicy(kind="lru", most=2),
    CachePolicy(kind="ram"),
    CachePolicy(kind="none"),
    CachePolicy(budget_bytes=300),
    CachePolicy(kind="lru", most=50, budget_bytes=300),
]


@node("Mix", category="toy", outputs=("INT",))
def mix(*, a: Anything, b: Anything, salt: Salt) -> int:
    return int((a * 31 + b * 7 + salt) % 1009)


@node("MixLater", category="toy", outputs=("INT",))
async def mix_later(*, a: Anything, b: Anything, salt: Salt) -> int:
    for _ in range(salt % 3):
        await asyncio.sleep(0)
    return int((a * 13 + b * 5 + salt) % 1009)


@node(
    "Spread",
    category="toy",
    outputs=(OutputSpec(name="items", type="INT", is_list=True), OutputSpec(name="n", type="INT")),
)
def spread(*, a: Anything, b: Anything, salt: Salt) -> tuple[list[int], int]:
    return [int((a + number) % 1009) for number in range(1 + (b + salt) % 3)], 1


@node("Fold", category="toy", outputs=("INT",), input_is_list=True)
def fold(*, a: Anything, b: Anything, salt: Anything) -> int:
    return int((sum(a) * 3 + sum(b) + salt[0]) % 1009)


def choose_one(a: Any, b: Any, salt: Any) -> list[str]:
    return ["b"] if salt[0] % 2 else ["a"]


@node("Choose", category="toy", outputs=("INT",), lazy=choose_one, input_is_list=True)
def choose(*, a: Lazily, b: Lazily, salt: Anything) -> Any:
    """Takes lists: how often a node of single items is called depends on lazy inputs that happen to be there."""
    return sum(b if salt[0] % 2 else a) % 1009


@node("Grow", category="toy", outputs=("INT",))
def grow(*, a: Annotated[Any, Socket("*", {"rawLink": True})], b: Anything, salt: Salt) -> Result:
    graph = GraphBuilder()
    first = graph.node("Mix", a=a, b=b, salt=salt)
    second = graph.node("MixLater", a=first.out(0), b=a, salt=salt + 1)
    return Result(values=(second.out(0),), expand=graph.finalize())


@node("Show", category="toy", outputs=(), output_node=True, input_is_list=True)
def show(*, a: Anything) -> Result:
    return Result(ui={"seen": list(a)})


KINDS = ("Mix", "MixLater", "Spread", "Fold", "Choose", "Grow")
LIBRARY = NodeLibrary.of([mix, mix_later, spread, fold, choose, grow, show])


@st.composite
def graphs(draw: st.DrawFn, kinds: tuple[str, ...] = KINDS) -> dict[str, Any]:
    """Nodes that each take two of those before, or numbers; some are shown. Every node has a number of its own."""
    nodes: dict[str, Any] = {}
    for salt in range(draw(st.integers(1, 9))):
        fed = [draw(st.sampled_from([*([each, 0] for each in nodes), 5])) for _ in range(2)]
        nodes[str(salt)] = {
            "class_type": draw(st.sampled_from(kinds)), "inputs": {"a": fed[0], "b": fed[1], "salt": salt},
        }  # fmt: skip
        if nodes[str(salt)]["class_type"] == "Choose":
            nodes[str(salt)]["inputs"] |= {"a": [_start(nodes), 0], "b": [_start(nodes), 0]} if 5 in fed else {}
    shown = draw(st.lists(st.sampled_from(sorted(set(nodes) - {"start"})), min_size=1, max_size=3, unique=True))
    for number in shown:
        nodes[f"show {number}"] = {"class_type": "Show", "inputs": {"a": [number, 0]}}
    return nodes


def _start(nodes: dict[str, Any]) -> str:
    """A node for lazy inputs, which must be links."""
    nodes.setdefault("start", {"class_type": "Mix", "inputs": {"a": 1, "b": 2, "salt": 99}})
    return "start"


def run(graph: dict[str, Any], bench: Bench) -> dict[str, Any]:
    result = bench.run(graph, tuple(name for name in graph if name.startswith("show")))
    assert isinstance(result.end, RunSucceeded), result.end
    return {name: ui["seen"] for name, ui in result.outputs.items()}


@settings(max_examples=150, deadline=None)
@given(graph=graphs(), other=graphs())
def test_results_are_the_same_whatever_is_kept_between_runs(graph: dict[str, Any], other: dict[str, Any]) -> None:
    expected = run(graph, Bench(library=LIBRARY))
    assert expected
    for policy in POLICIES:
        bench = Bench(library=LIBRARY, cache=OutputCache(policy=policy))
        assert run(graph, bench) == expected
        run(other, bench)
        assert run(graph, bench) == expected
        assert run(graph, bench) == expected


@settings(max_examples=150, deadline=None)
@given(graph=graphs(("Mix", "MixLater", "Spread", "Fold")), policy=st.sampled_from(POLICIES))
def test_every_node_that_is_needed_runs_once_and_after_what_feeds_it(
    graph: dict[str, Any], policy: CachePolicy
) -> None:
    bench = Bench(library=LIBRARY, cache=OutputCache(policy=policy))
    run(graph, bench)
    needed = [name for name in graph if name.startswith("show")]
    for name in needed:
        needed += [
            each[0] for each in graph[name]["inputs"].values() if isinstance(each, list) and each[0] not in needed
        ]
    assert sorted(bench.started) == sorted(set(needed))
    finished: set[str] = set()
    for event in bench.events:
        if isinstance(event, NodeStarted):
            fed = {each[0] for each in graph[event.node.id]["inputs"].values() if isinstance(each, list)}
            assert fed <= finished
        elif isinstance(event, NodeFinished):
            finished.add(event.node.id)


@settings(max_examples=100, deadline=None)
@given(graph=graphs())
def test_nothing_is_held_after_a_run_but_by_the_cache(graph: dict[str, Any]) -> None:
    bench = Bench(library=LIBRARY, cache=OutputCache(policy=CachePolicy()))
    run(graph, bench)
    run(graph, bench)
    assert bench.started == []


def test_a_chain_of_a_thousand_expansions_needs_no_recursion() -> None:
    @node("Down", category="toy", outputs=("INT",))
    def down(*, left: Annotated[int, Int()]) -> Result:
        graph = GraphBuilder("" if left else None)
        if left == 0:
            return Result(values=(0,))
        child = graph.node("Down", id=f"level {left}", left=left - 1)
        return Result(values=(child.out(0),), expand=graph.finalize())

    bench = Bench(library=NodeLibrary.of([down, show]))
    graph = {
        "1": {"class_type": "Down", "inputs": {"left": 1000}},
        "show": {"class_type": "Show", "inputs": {"a": ["1", 0]}},
    }
    assert run(graph, bench) == {"show": [0]}
