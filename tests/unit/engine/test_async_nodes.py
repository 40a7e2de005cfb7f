"""Async nodes: side by side with others, interrupted, failing, and each with a context of its own."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable
from typing import Annotated, Any

import pytest

from limner.engine.context import RunContext, current
from limner.engine.events import NodeFinished, NodeStarted, RunFailed, RunInterrupted, RunSucceeded, StepDone
from limner.engine.library import NodeLibrary
from limner.graph.kinds import Result
from limner.graph.node import node
from limner.graph.spec import OutputSpec
from limner.graph.types import Socket
from tests.unit.engine.classes import ClassNode
from tests.unit.engine.runs import Bench

Anything = Annotated[Any, Socket("*")]
LOG: list[str] = []
TASKS: list[asyncio.Task[None]] = []


@pytest.fixture(autouse=True)
def _empty_log() -> None:
    LOG.clear()
    TASKS.clear()


class Meeting:
    """Waits until so many have come: only who runs side by side gets past it."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.here = 0
        self.all_here = asyncio.Event()

    async def come(self) -> None:
        self.here += 1
        if self.here == self.size:
            self.all_here.set()
        await self.all_here.wait()


MEETINGS: dict[str, Meeting] = {}


@node("Meet", category="toy", outputs=("*",))
async def meet(*, who: Anything, wait_for: Anything = None) -> Any:
    await MEETINGS["m"].come()
    ctx = current()
    ctx.progress(1, 2)
    await asyncio.sleep(0)
    assert current() is ctx
    return (who, ctx.node.id, ctx.list_index)


@node("Forever", category="toy", outputs=("*",))
async def forever(*, who: Anything) -> Any:
    try:
        await asyncio.Event().wait()
    finally:
        LOG.append(f"cleaned {who}")


@node("Raise", category="toy", outputs=("*",))
async def raise_it(*, how: Anything) -> Any:
    for _ in range(9):  # until others have begun as well
        await asyncio.sleep(0)
    raise {"value": ValueError("later"), "exit": SystemExit(3), "cancel": asyncio.CancelledError()}[how]


@node("Promise", category="toy", outputs=("*",))
def promise(*, v: Anything) -> Awaitable[Any]:
    """Gives an awaitable without being async."""

    async def later() -> Any:
        return v

    return later()


@node("Spread", category="toy", outputs=(OutputSpec(name="items", type="*", is_list=True),))
def spread(*, items: Anything) -> Any:
    return items["all"]


@node("Both", category="toy", outputs=("*",))
def both(*, a: Anything, b: Anything = None) -> Any:
    return [a, b]


@node("Show", category="toy", outputs=(), output_node=True, input_is_list=True)
def show(*, v: Anything) -> Result:
    LOG.append("shown")
    return Result(ui={"seen": v})


@node("RaiseTogether", category="toy", outputs=("*",))
async def raise_together(*, who: Anything) -> Any:
    await MEETINGS["m"].come()
    raise ValueError(who)


@node("LeaveFromWithin", category="toy", outputs=("*",))
async def leave_from_within(*, who: Anything) -> Any:
    """A task of the node's own, which nobody awaits, tries to end the process."""

    async def leave() -> None:
        await asyncio.sleep(0)
        raise SystemExit(4)

    TASKS.append(asyncio.create_task(leave()))
    await asyncio.Event().wait()


@node("LeaveWhenCanceled", category="toy", outputs=("*",))
async def leave_when_canceled(*, who: Anything) -> Any:
    async def leave() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise SystemExit(5)

    TASKS.append(asyncio.create_task(leave()))
    await asyncio.sleep(0)
    return who


@node("ShowOne", category="toy", outputs=("*",), output_node=True)
async def show_one(*, v: Anything) -> Result:
    LOG.append(f"show {v}")
    await asyncio.sleep(0)
    return Result(values=(v,), ui={"seen": [v]})


LIBRARY = NodeLibrary.of(
    [
        raise_together,
        leave_from_within,
        leave_when_canceled,
        show_one,
        meet,
        forever,
        raise_it,
        promise,
        spread,
        both,
        show,
    ]
)


def run(
    *, meeting: int = 0, interrupted: Any = lambda: False, **nodes: tuple[str, dict[str, Any]]
) -> tuple[Bench, Any]:
    MEETINGS["m"] = Meeting(meeting)
    bench = Bench(library=LIBRARY)
    graph = {name[1:]: {"class_type": kind, "inputs": inputs} for name, (kind, inputs) in nodes.items()}
    outputs = tuple(node_id for node_id, each in graph.items() if each["class_type"] in ("Show", "ShowOne"))
    return bench, bench.run(graph, outputs, interrupted=interrupted)


def test_two_nodes_wait_at_the_same_time_while_a_plain_one_runs() -> None:
    bench, result = run(
        meeting=2, n1=("Meet", {"who": "a"}), n2=("Meet", {"who": "b"}),
        n3=("Both", {"a": ["1", 0], "b": ["2", 0]}), n4=("Show", {"v": ["3", 0]}), n5=("Show", {"v": "plain"}),
    )  # fmt: skip
    assert result.outputs == {"4": {"seen": [[("a", "1", 0), ("b", "2", 0)]]}, "5": {"seen": ["plain"]}}
    told = [
        (type(event), event.node.id)
        for event in bench.events
        if isinstance(event, NodeStarted | NodeFinished | StepDone)
    ]
    assert told.index((NodeStarted, "1")) < told.index((StepDone, "2"))
    assert {(StepDone, "1"), (StepDone, "2")} <= set(told)


def test_the_calls_of_a_list_wait_at_the_same_time() -> None:
    _, result = run(
        meeting=3, n1=("Spread", {"items": {"all": "abc"}}), n2=("Spread", {"items": {"all": ["a", "b", "c"]}}),
        n3=("Meet", {"who": ["2", 0]}), n4=("Show", {"v": ["3", 0]}),
    )  # fmt: skip
    assert result.outputs == {"4": {"seen": [("a", "3", 0), ("b", "3", 1), ("c", "3", 2)]}}


def test_a_plain_function_may_give_an_awaitable() -> None:
    _, result = run(n1=("Promise", {"v": 5}), n2=("Show", {"v": ["1", 0]}))
    assert result.outputs == {"2": {"seen": [5]}}


@pytest.mark.parametrize(("how", "kind"), [("value", "ValueError"), ("exit", "SystemExit"), ("cancel", "RuntimeError")])
def test_what_an_async_node_raises_fails_the_run_and_ends_the_others(how: str, kind: str) -> None:
    bench, result = run(
        n1=("Forever", {"who": "x"}), n2=("Raise", {"how": how}),
        n3=("Both", {"a": ["1", 0], "b": ["2", 0]}), n4=("Show", {"v": ["3", 0]}),
    )  # fmt: skip
    assert isinstance(result.end, RunFailed)
    assert (result.end.node.id, result.end.exception_type, result.end.current_inputs) == ("2", kind, {"how": [how]})
    assert LOG == ["cleaned x"]
    assert isinstance(bench.run({"1": {"class_type": "Show", "inputs": {"v": 1}}}, ("1",)).end, RunSucceeded)


def test_of_several_that_fail_at_once_one_is_told_and_none_is_lost(caplog: pytest.LogCaptureFixture) -> None:
    _, result = run(
        meeting=2, n1=("RaiseTogether", {"who": "a"}), n2=("RaiseTogether", {"who": "b"}),
        n3=("Both", {"a": ["1", 0], "b": ["2", 0]}), n4=("Show", {"v": ["3", 0]}),
    )  # fmt: skip
    assert isinstance(result.end, RunFailed)
    assert (result.end.node.id, result.end.exception_message) in [("1", "a\n"), ("2", "b\n")]
    gc.collect()
    assert caplog.records == []


def test_a_task_of_a_nodes_own_cannot_end_the_engine() -> None:
    bench, result = run(n1=("LeaveFromWithin", {"who": "x"}), n2=("Show", {"v": ["1", 0]}))
    assert isinstance(result.end, RunFailed)
    assert (result.end.node.id, result.end.exception_type) == ("1", "SystemExit")
    assert isinstance(bench.run({"1": {"class_type": "Show", "inputs": {"v": 1}}}, ("1",)).end, RunSucceeded)


def test_nor_can_one_that_is_left_over_when_the_run_ends() -> None:
    _, result = run(
        n1=("LeaveWhenCanceled", {"who": "x"}), n2=("Forever", {"who": "y"}), n3=("Raise", {"how": "value"}),
        n4=("Both", {"a": ["2", 0], "b": ["3", 0]}), n5=("Show", {"v": ["4", 0]}), n6=("Show", {"v": ["1", 0]}),
    )  # fmt: skip
    assert isinstance(result.end, RunFailed)
    assert (result.end.exception_type, LOG) == ("ValueError", ["cleaned y"])


def test_equal_nodes_run_once_though_the_second_is_ready_before_the_first_is_done() -> None:
    bench, result = run(
        n1=("Promise", {"v": 5}), n2=("ShowOne", {"v": ["1", 0]}), n3=("ShowOne", {"v": ["1", 0]}),
        n4=("Show", {"v": ["2", 0]}), n5=("Show", {"v": ["3", 0]}),
    )  # fmt: skip
    assert result.outputs == {node_id: {"seen": [5]} for node_id in "2345"}
    assert LOG.count("show 5") == 1
    assert [event.node.id for event in bench.events if isinstance(event, NodeStarted)].count("3") == 0


def test_an_interrupt_ends_a_node_that_only_waits() -> None:
    asked = iter([False] * 3)
    _, result = run(n1=("Forever", {"who": "x"}), n2=("Show", {"v": ["1", 0]}), interrupted=lambda: next(asked, True))
    assert isinstance(result.end, RunInterrupted)
    assert (result.end.node.id, LOG) == ("1", ["cleaned x"])


def test_outside_of_a_call_there_is_no_context() -> None:
    with pytest.raises(Exception, match="no node is running here"):
        current()


def test_a_context_belongs_to_one_call() -> None:
    seen: list[RunContext] = []

    @node("See", category="toy", outputs=(), output_node=True)
    def see(ctx: RunContext, *, v: Anything) -> None:
        assert current() is ctx
        seen.append(ctx)

    bench = Bench(library=NodeLibrary.of([spread, see]))
    graph = {
        "1": {"class_type": "Spread", "inputs": {"items": {"all": [1, 2]}}},
        "2": {"class_type": "See", "inputs": {"v": ["1", 0]}},
    }
    assert isinstance(bench.run(graph, ("2",)).end, RunSucceeded)
    assert [(ctx.node.id, ctx.list_index) for ctx in seen] == [("2", 0), ("2", 1)]


def test_an_interrupt_is_heard_while_a_class_thinks_about_its_inputs() -> None:
    async def think(inputs: dict[str, Any], types: dict[str, Any] | None = None) -> bool:
        await asyncio.Event().wait()
        return True

    for kind in (ClassNode("Think", check=think, output=True), ClassNode("Think", fingerprint=think, output=True)):
        bench = Bench(library=NodeLibrary([kind]))
        asked = iter([False] * 3)
        end = bench.run(
            {"1": {"class_type": "Think", "inputs": {"v": 1}}},
            ("1",),
            interrupted=lambda: next(asked, True),  # noqa: B023
        ).end
        assert isinstance(end, RunInterrupted)
        assert bench.started == []
