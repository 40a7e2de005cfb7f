"""What node classes say of inputs is asked beside a run, and never costs the engine anything."""

from __future__ import annotations

import queue
import threading
from typing import Any

import pytest

from limner.engine.accepted import Accepted
from limner.enginehost import checking
from limner.enginehost.checking import Checker
from limner.graph.kinds import NodeType
from limner.graph.spec import InputSpec, NodeSpec


class Says(NodeType):
    """A class whose own check gives, or raises, what it was made with."""

    def __init__(self, verdict: Any, **options: Any) -> None:
        self.verdict = verdict
        self.spec = NodeSpec(
            name="Says", display_name=None, category="", inputs=(InputSpec(name="x", type="INT", **options),)
        )

    def check(self, inputs: Any, types: Any) -> Any:
        if isinstance(self.verdict, BaseException):
            raise self.verdict
        return self.verdict() if callable(self.verdict) else self.verdict


async def later() -> str:
    return "said later"


def ask(kind: NodeType, name: str = "Says") -> Any:
    answers: queue.SimpleQueue[list[Any]] = queue.SimpleQueue()
    Checker({"Says": kind}, Accepted()).ask([{"class": name, "inputs": {"x": 1}, "types": {}}], answers.put)
    [verdict] = answers.get(timeout=10)
    return verdict


@pytest.mark.parametrize(
    ("said", "verdict"),
    [
        (True, True),
        (False, False),
        (None, False),
        ("no", "no"),
        (later, "said later"),
        (ValueError("boom"), {"type": "ValueError", "message": "boom"}),
        (SystemExit(3), {"type": "SystemExit", "message": "3"}),
    ],
)
def test_a_verdict_is_what_the_class_said(said: Any, verdict: Any) -> None:
    assert ask(Says(said)) == verdict


def test_a_class_that_is_not_here_is_left_to_the_run() -> None:
    assert ask(Says(False), "Other") is None


def test_a_class_that_looks_at_input_files_is_left_to_the_run() -> None:
    assert ask(Says(False, upload="image")) is None


def test_code_that_never_comes_back_keeps_no_more_than_a_few_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "MOST_THREADS", 1)
    forever = threading.Event()
    checker = Checker({"Says": Says(lambda: forever.wait(60))}, Accepted())
    answers: queue.SimpleQueue[list[Any]] = queue.SimpleQueue()
    question = {"class": "Says", "inputs": {}, "types": {}}
    checker.ask([question], answers.put)
    checker.ask([question, question], answers.put)
    assert answers.get(timeout=10) == [None, None]
    forever.set()
    assert answers.get(timeout=10) == [True]


@pytest.mark.parametrize(("verdict", "noted"), [(True, True), (False, False), ("a reason", False)])
def test_what_was_accepted_is_noted_for_the_run(verdict: Any, noted: bool) -> None:
    accepted = Accepted()
    answers: queue.SimpleQueue[list[Any]] = queue.SimpleQueue()
    question = {"class": "Says", "inputs": {"x": 1}, "types": {}}
    Checker({"Says": Says(lambda: verdict)}, accepted).ask([question], answers.put)
    assert answers.get(timeout=10) == [verdict]
    assert accepted.take("Says", {"x": 1}, {}) is noted
