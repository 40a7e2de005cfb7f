"""What the executor does beyond the recordings: failures of every kind, interrupts, caching, large workflows."""

from __future__ import annotations

import json
import time
import weakref
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import pytest
from hypothesis import given, settings

from limner.engine.cache import OutputCache
from limner.engine.context import RunContext
from limner.engine.events import (
    NodeFinished,
    NodeOutput,
    NodesCached,
    NodeStarted,
    PreviewReady,
    RunFailed,
    RunInterrupted,
    RunStarted,
    RunSucceeded,
    StepDone,
    Warned,
)
from limner.engine.failure import Failure, shown_inputs
from limner.engine.library import NodeLibrary
from limner.errors import OutOfMemory, WorkflowInvalid
from limner.graph.kinds import Result
from limner.graph.node import node
from limner.graph.types import Hidden, Int, Socket
from limner.graph.validate import validate
from tests.support.workflows import likely_workflows
from tests.unit.engine.runs import CATALOGUE, Bench

Anything = Annotated[Any, Socket("*")]
CALLS: list[str] = []


@pytest.fixture(autouse=True)
def _no_calls() -> None:
    CALLS.clear()


@dataclass(eq=False)
class Held:
    """A value of a size."""

    nbytes: int


@node("Make", category="toy")
def make(*, size: Annotated[int, Int()] = 10) -> Anything:
    CALLS.append("Make")
    return Held(size)


@node("Pass", category="toy")
def pass_on(*, value: Anything, other: Anything = None) -> Anything:
    CALLS.append("Pass")
    return value


@node("Show", category="toy", outputs=(), output_node=True)
def show(*, value: Anything) -> Result:
    CALLS.append("Show")
    return Result(ui={"text": [type(value).__name__]})


@node("WhoAmI", category="toy", outputs=("STRING",))
def who_am_i(*, node_id: Annotated[str, Hidden("UNIQUE_ID")]) -> str:
    CALLS.append("WhoAmI")
    return node_id


@node("Raise", category="toy", outputs=(), output_node=True)
def raise_it(ctx: RunContext, *, how: Anything) -> None:
    raise FAULTS[how]


@node("Steps", category="toy", outputs=(), output_node=True)
def steps(ctx: RunContext, *, count: Annotated[int, Int()] = 2) -> None:
    for done in range(count):
        ctx.progress(done + 1, count, ("image/png", b"picture"))
    ctx.warn("an unusual size")


@node("BadUi", category="toy", outputs=(), output_node=True)
def bad_ui(*, how: Anything) -> Result:
    shown: dict[str, Any] = {"not a list": 1, "no json": [object()], "nan": [float("nan")], "half": ["\ud800"]}
    return Result(ui={"text": shown[how]})


class OutOfMemoryError(RuntimeError):
    """As torch names its own."""


class Unspeakable:
    def __str__(self) -> str:
        raise RuntimeError("no")


FAULTS: dict[str, BaseException] = {
    "exit": SystemExit(3),
    "memory": MemoryError(),
    "torch": OutOfMemoryError("CUDA out of memory"),
    "own": OutOfMemory("no memory left for the model"),
    "mute": ValueError(Unspeakable()),
    "keyboard": KeyboardInterrupt(),
}
TOYS = NodeLibrary.of([make, pass_on, show, who_am_i, raise_it, steps, bad_ui])


def bench(budget_bytes: int = 10**9) -> Bench:
    return Bench(library=TOYS, cache=OutputCache(budget_bytes))


def graph(**nodes: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    return {
        name.lstrip("n"): {"class_type": class_type, "inputs": inputs} for name, (class_type, inputs) in nodes.items()
    }


@pytest.mark.parametrize(
    ("how", "code", "retryable", "kind"),
    [
        ("exit", "node_error", False, "SystemExit"),
        ("memory", "out_of_memory", True, "MemoryError"),
        ("torch", "out_of_memory", True, f"{__name__}.OutOfMemoryError"),
        ("own", "out_of_memory", True, "limner.errors.OutOfMemory"),
        ("mute", "node_error", False, "ValueError"),
    ],
)
def test_whatever_a_node_raises_ends_the_run_and_not_the_engine(
    how: str, code: str, retryable: bool, kind: str
) -> None:
    here = bench()
    end = here.run(graph(n1=("Raise", {"how": how})), ("1",)).end
    assert isinstance(end, RunFailed)
    assert (end.code, end.retryable, end.exception_type) == (code, retryable, kind)
    assert end.current_inputs == {"how": [how]}
    assert "raise_it" in end.traceback[-1]
    assert isinstance(here.run(graph(n1=("Steps", {})), ("1",)).end, RunSucceeded)


def test_a_failures_words_can_be_kept_whatever_they_are() -> None:
    """A file name that is no UTF-8 comes along in messages as halves of surrogate pairs, which no database takes."""
    failure = Failure.of(ValueError("no file a\udcff.png"))
    assert failure.exception_message == "no file a\\udcff.png\n"
    assert shown_inputs({"a": "\ud800"}) == {"a": ["\\ud800"]}


def test_ctrl_c_passes() -> None:
    with pytest.raises(KeyboardInterrupt):
        bench().run(graph(n1=("Raise", {"how": "keyboard"})), ("1",))


@pytest.mark.parametrize("how", ["not a list", "no json", "nan", "half"])
def test_what_cannot_be_shown_is_the_nodes_failure(how: str) -> None:
    assert isinstance(bench().run(graph(n1=("BadUi", {"how": how})), ("1",)).end, RunFailed)


def test_inputs_of_a_failure_are_plain_whatever_they_are() -> None:
    here = bench()
    end = here.run(graph(n1=("Make", {}), n2=("Raise", {"how": ["1", 0]})), ("2",)).end
    assert isinstance(end, RunFailed)
    assert end.current_inputs == {"how": ["Held(nbytes=10)"]}


@pytest.mark.parametrize(
    ("workflow", "message"),
    [
        (graph(n1=("Show", {"value": ["9", 0]})), "input value links to output 0 of node 9, which does not exist"),
        (graph(n0=("Make", {}), n1=("Show", {"value": ["0", 7]})), "input value links to output 7 of node 0"),
        (graph(n0=("Make", {}), n1=("Show", {"value": ["0", -1]})), "input value links to output -1 of node 0"),
        (graph(n0=("Gone", {}), n1=("Show", {"value": ["0", 0]})), "this worker has no node Gone"),
        (graph(n1=("Show", {})), "missing 1 required keyword-only argument: 'value'"),
        (graph(n1=("Show", {"value": ["1", 0]})), "Dependency cycle detected"),
    ],
)
def test_what_validation_would_have_refused_fails_in_order(workflow: dict[str, Any], message: str) -> None:
    end = bench().run(workflow, ("1",)).end
    assert isinstance(end, RunFailed)
    assert message in end.exception_message


@settings(max_examples=200, deadline=None)
@given(prompt=likely_workflows())
def test_whatever_validation_accepts_comes_to_an_end(prompt: dict[str, Any]) -> None:
    try:
        checked = validate(prompt, CATALOGUE)
    except WorkflowInvalid:
        return
    result = Bench().run(checked.workflow, checked.outputs)
    json.dumps([asdict(result.end), result.outputs, result.meta], allow_nan=False)


def test_no_graph_at_all_is_the_callers_fault() -> None:
    with pytest.raises(WorkflowInvalid):
        bench().run({"1": "x"}, ("1",))


def test_steps_previews_and_warnings_are_told_in_order() -> None:
    here = bench()
    here.run(graph(n1=("Steps", {})), ("1",))
    kinds = [type(event) for event in here.events]
    told = [NodeStarted, PreviewReady, StepDone, PreviewReady, StepDone, Warned, NodeFinished]
    assert kinds == [RunStarted, NodesCached, *told, RunSucceeded]


def test_a_node_learns_at_once_that_somebody_watches() -> None:
    seen = []

    @node("Watch", category="toy", outputs=(), output_node=True)
    def watch(ctx: RunContext) -> None:
        for step in range(2):
            seen.append(ctx.previews)
            here.ctx.previews = True
            ctx.progress(step, 2)

    here = Bench(library=NodeLibrary.of([watch]))
    here.run(graph(n1=("Watch", {})), ("1",))
    assert seen == [False, True]


def test_an_interrupt_before_a_node_stops_it_from_being_called() -> None:
    here = bench()
    workflow = graph(n1=("Make", {}), n2=("Show", {"value": ["1", 0]}))
    end = here.run(workflow, ("2",), interrupted=lambda: "Make" in CALLS).end
    assert isinstance(end, RunInterrupted)
    assert (end.node.id, end.executed, CALLS) == ("2", ("1",), ["Make"])


def test_what_was_done_before_an_interrupt_is_not_done_again() -> None:
    here = bench()
    workflow = graph(n1=("Make", {}), n2=("Show", {"value": ["1", 0]}))
    here.run(workflow, ("2",), interrupted=lambda: "Make" in CALLS)
    here.run(workflow, ("2",))
    assert CALLS == ["Make", "Show"]


def test_only_what_the_outputs_need_runs() -> None:
    workflow = graph(
        n1=("Make", {}), n2=("Show", {"value": ["1", 0]}), n3=("Make", {"size": 3}), n4=("Pass", {"value": ["3", 0]})
    )
    here = bench()
    here.run(workflow, ("2",))
    assert here.started == ["1", "2"]


def test_undeclared_inputs_are_not_passed_on_and_their_links_not_followed() -> None:
    workflow = graph(
        n1=("Make", {"size": 1, "extra": ["3", 0]}), n2=("Show", {"value": ["1", 0], "more": 5}), n3=("Make", {})
    )
    here = bench()
    assert isinstance(here.run(workflow, ("2",)).end, RunSucceeded)
    assert here.started == ["1", "2"]


def test_equal_nodes_run_once_unless_they_ask_for_their_id() -> None:
    twins = {"n1": ("Make", {}), "n2": ("Make", {}), "n3": ("Pass", {"value": ["1", 0], "other": ["2", 0]})}
    asking = {"n5": ("WhoAmI", {}), "n6": ("WhoAmI", {}), "n7": ("Show", {"value": ["5", 0]})}
    shown = {"n4": ("Show", {"value": ["3", 0]}), "n8": ("Show", {"value": ["6", 0]})}
    workflow = graph(**twins, **asking, **shown)
    here = bench()
    here.run(workflow, ("4", "7", "8"))
    assert sorted(CALLS) == ["Make", "Pass", "Show", "Show", "Show", "WhoAmI", "WhoAmI"]


def test_a_tenant_never_gets_what_another_made() -> None:
    here = bench()
    workflow = graph(n1=("Make", {}), n2=("Show", {"value": ["1", 0]}))
    here.run(workflow, ("2",), tenant="a")
    here.run(workflow, ("2",), tenant="b")
    assert CALLS == ["Make", "Show"] * 2
    here.run(workflow, ("2",), tenant="a")
    assert CALLS == ["Make", "Show"] * 2


def test_a_value_too_large_for_the_cache_still_reaches_its_users() -> None:
    here = bench(budget_bytes=1000)
    workflow = graph(n1=("Make", {"size": 5000}), n2=("Pass", {"value": ["1", 0]}), n3=("Show", {"value": ["2", 0]}))
    for _ in range(2):
        assert here.run(workflow, ("3",)).outputs == {"3": {"text": ["Held"]}}
    assert CALLS == ["Make", "Pass", "Show"]  # the output node's own result is small, and answers for all
    assert here.cache.size_bytes <= 1000


def test_a_retracted_output_is_made_again_and_what_fed_it_is_not() -> None:
    here = bench()
    workflow = graph(n1=("Make", {}), n2=("Show", {"value": ["1", 0]}))
    here.run(workflow, ("2",))
    here.executor.retract()
    here.run(workflow, ("2",))
    assert CALLS == ["Make", "Show", "Show"]


def test_cached_outputs_that_are_not_wanted_are_in_the_result_too() -> None:
    here = bench()
    workflow = graph(n1=("Make", {}), n2=("Show", {"value": ["1", 0]}), n3=("Show", {"value": 1}))
    here.run(workflow, ("2", "3"))
    result = here.run(workflow, ("3",))
    assert set(result.outputs) == {"2", "3"}
    assert [event.node.id for event in here.events if isinstance(event, NodeOutput)] == ["3"]


def trivial(count: int) -> dict[str, Any]:
    """A chain of nodes in which each takes two values, with an output at its end."""
    workflow = graph(n0=("Make", {}), n1=("Make", {}))
    for number in range(2, count):
        inputs = {"value": [str(number - 1), 0], "other": [str(number // 2), 0]}
        workflow[str(number)] = {"class_type": "Pass", "inputs": inputs}
    workflow["out"] = {"class_type": "Show", "inputs": {"value": [str(count - 1), 0]}}
    return workflow


def seconds_per_node(count: int) -> float:
    workflow = trivial(count)
    best = 1e9
    for _ in range(3):
        start = time.process_time()
        assert isinstance(bench().run(workflow, ("out",)).end, RunSucceeded)
        best = min(best, time.process_time() - start)
    return best / count


def test_ten_thousand_nodes_in_a_chain_take_no_longer_each_than_a_thousand() -> None:
    assert seconds_per_node(10_000) < 3 * seconds_per_node(1_000) + 20e-6


def test_values_are_let_go_as_soon_as_no_node_needs_them() -> None:
    alive: weakref.WeakSet[Held] = weakref.WeakSet()
    most = []

    @node("Fresh", category="toy")
    def fresh(*, value: Anything = None) -> Anything:
        made = Held(1)
        alive.add(made)
        most.append(len(alive))
        return made

    here = Bench(library=NodeLibrary.of([fresh, show]), cache=OutputCache(0))
    links = {f"n{number}": ("Fresh", {"value": [str(number - 1), 0]} if number else {}) for number in range(50)}
    assert isinstance(here.run(graph(**links, n50=("Show", {"value": ["49", 0]})), ("50",)).end, RunSucceeded)
    assert max(most) == 2
