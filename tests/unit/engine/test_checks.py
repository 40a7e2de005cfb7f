"""What classes say of their own inputs: before anything runs, worded as ComfyUI words it."""

from __future__ import annotations

from typing import Any

import pytest

from limner.engine.accepted import MOST, Accepted
from limner.engine.events import NodeStarted, RunFailed, RunSucceeded, Warned
from limner.engine.library import NodeLibrary
from limner.graph.spec import ValidatorSpec
from tests.unit.engine.classes import ClassNode
from tests.unit.engine.runs import Bench

ASKED: list[Any] = []


@pytest.fixture(autouse=True)
def _nothing_asked() -> None:
    ASKED.clear()


def judge(inputs: dict[str, Any], types: dict[str, Any]) -> Any:
    ASKED.append((inputs, types))
    match inputs.get("v"):
        case "raise":
            raise RuntimeError("validator raised")
        case "exit":
            raise SystemExit(1)
        case "later":
            return later()
    return {"text": "reason given by the node", "no": False}.get(inputs.get("v"), True)  # type: ignore[arg-type]


async def later() -> str:
    return "told later"


LIBRARY = NodeLibrary([
    ClassNode("Plain"),
    ClassNode("Show", inputs={"v": "*", "w": "*"}, check=judge, output=True),
    ClassNode("Named", inputs={"v": "*", "w": "*"}, check=judge, checks=ValidatorSpec(inputs=("v",)), output=True),
    ClassNode("Typed", inputs={"v": "*"}, check=judge, checks=ValidatorSpec(types=True), output=True),
    ClassNode("Inner", check=judge),
])  # fmt: skip


def run(**nodes: tuple[str, dict[str, Any]]) -> tuple[Bench, Any]:
    bench = Bench(library=LIBRARY)
    graph: dict[str, Any] = {name[1:]: {"class_type": kind, "inputs": inputs} for name, (kind, inputs) in nodes.items()}
    outputs = tuple(node_id for node_id, each in graph.items() if LIBRARY[each["class_type"]].spec.output_node)
    return bench, bench.run(graph, outputs)


def errors(result: Any, node_id: str) -> list[tuple[str, str]]:
    assert isinstance(result.end, RunFailed)
    assert result.end.code == "workflow_refused"
    return [(each["type"], each["details"]) for each in result.end.refusal["node_errors"][node_id]["errors"]]


def test_inputs_that_fit_run() -> None:
    _, result = run(n1=("Plain", {"v": 1}), n2=("Show", {"v": "fine", "w": ["1", 0]}))
    assert isinstance(result.end, RunSucceeded)
    assert ASKED == [({"v": "fine", "w": None}, {"w": "*"})]


@pytest.mark.parametrize(
    ("value", "details"),
    [("text", "v - reason given by the node"), ("no", "v"), ("later", "v - told later")],
)
def test_a_refusal_is_told_for_each_argument(value: str, details: str) -> None:
    bench, result = run(n2=("Named", {"v": value, "w": 1}))
    assert errors(result, "2") == [("custom_validation_failed", details)]
    assert [({"v": value}, {})] == ASKED
    assert not [event for event in bench.events if isinstance(event, NodeStarted)]


def test_types_count_as_an_argument_and_links_are_told_by_type() -> None:
    def refuse(inputs: dict[str, Any], types: dict[str, Any]) -> str:
        return f"no {types['v']} please"

    kind = ClassNode("Typed", check=refuse, checks=ValidatorSpec(all_inputs=True, types=True), output=True)
    bench = Bench(library=NodeLibrary([ClassNode("Plain"), kind]))
    graph = {
        "1": {"class_type": "Plain", "inputs": {"v": 1}},
        "2": {"class_type": "Typed", "inputs": {"v": ["1", 0]}},
    }
    assert [details for _, details in errors(bench.run(graph, ("2",)), "2")] == [
        "v - no * please",
        "input_types - no * please",
    ]


@pytest.mark.parametrize(("value", "kind"), [("raise", "RuntimeError"), ("exit", "SystemExit")])
def test_what_a_validator_raises_is_a_fault_of_its_node(value: str, kind: str) -> None:
    _, result = run(n2=("Named", {"v": value}))
    [fault] = result.end.refusal["node_errors"]["2"]["errors"]
    assert (fault["type"], fault["extra_info"]["exception_type"]) == ("exception_during_validation", kind)


def test_one_further_up_spoils_every_output_behind_it() -> None:
    _, result = run(
        n1=("Inner", {"v": "raise"}), n2=("Plain", {"v": ["1", 0]}), n3=("Show", {"v": ["2", 0]}),
        n4=("Show", {"v": ["1", 0], "w": 3}),
    )  # fmt: skip
    told = result.end.refusal["node_errors"]
    assert list(told) == ["1"]
    assert told["1"]["dependent_outputs"] == ["3", "4"]
    [fault] = told["1"]["errors"]
    assert fault["type"] == "exception_during_inner_validation"
    assert fault["extra_info"]["linked_node"] == ["1", 0]
    assert result.end.refusal["error"]["type"] == "prompt_outputs_failed_validation"


def test_sound_outputs_run_and_the_others_are_told_of() -> None:
    bench, result = run(n1=("Show", {"v": "text"}), n2=("Show", {"v": "fine"}))
    assert isinstance(result.end, RunSucceeded)
    assert bench.started == ["2"]
    [warning] = [event for event in bench.events if isinstance(event, Warned)]
    assert (warning.node.id, warning.text) == (
        "1",
        "Custom validation failed for node: v - reason given by the node. Left out: output 1",
    )


def test_what_no_wanted_output_needs_is_not_asked() -> None:
    bench = Bench(library=LIBRARY)
    graph = {
        "1": {"class_type": "Show", "inputs": {"v": "fine"}},
        "2": {"class_type": "Show", "inputs": {"v": "text"}},
    }
    assert isinstance(bench.run(graph, ("1",)).end, RunSucceeded)
    assert len(ASKED) == 1


def test_what_a_class_accepted_before_is_not_asked_again_once() -> None:
    bench = Bench(library=LIBRARY)
    graph = {"1": {"class_type": "Show", "inputs": {"v": "fine", "w": 2}}}
    bench.executor.accepted.add("Show", {"w": 2, "v": "fine"}, {})
    for asked in (0, 1, 2):
        assert isinstance(bench.run(graph, ("1",)).end, RunSucceeded)
        assert len(ASKED) == asked


def test_an_answer_counts_for_its_own_question_only() -> None:
    accepted = Accepted()
    accepted.add("A", {"v": 1}, {})
    accepted.add("A", {"v": 1}, {})
    accepted.add("A", {"v": object()}, {})
    assert not accepted.take("A", {"v": 2}, {})
    assert not accepted.take("B", {"v": 1}, {})
    assert not accepted.take("A", {"v": 1}, {"v": "INT"})
    assert not accepted.take("A", {"v": object()}, {})
    assert [accepted.take("A", {"v": 1}, {}) for _ in range(3)] == [True, True, False]


def test_answers_that_no_run_asks_for_are_forgotten_in_the_end() -> None:
    accepted = Accepted()
    for number in range(MOST + 1):
        accepted.add("A", {"v": number}, {})
    assert not accepted.take("A", {"v": 0}, {})
    assert accepted.take("A", {"v": MOST}, {})
