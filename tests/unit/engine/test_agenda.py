"""Agenda: the order of running, and that it is linear."""

from __future__ import annotations

import time

import pytest

from limner.engine.agenda import Agenda


def order(graph: dict[str, list[str]], outputs: str, *, wanted: str | None = None) -> str:
    """All nodes in the order in which they run; one letter each. `graph` maps a node to what feeds it."""
    agenda = Agenda(lambda each: graph.get(each, []), lambda each: each in outputs)
    for output in wanted or outputs:
        agenda.add(output)
    done = ""
    while (node := agenda.next()) is not None:
        done += node
        agenda.finish(node)
    assert agenda.waiting() == []
    return done


@pytest.mark.parametrize(
    ("graph", "outputs", "expected"),
    [
        ({"o": ["a"], "a": ["b"]}, "o", "bao"),
        ({"o": ["a", "b"]}, "o", "bao"),  # inputs are walked from the last
        ({"o": ["a"], "a": ["b", "c"], "p": ["d"]}, "op", "dpcbao"),  # what feeds an output goes before two steps away
        ({"o": ["a"], "a": ["b"], "b": ["c"], "p": ["d"], "d": ["e"]}, "op", "edpcbao"),
        ({"o": ["p"], "p": ["a"]}, "op", "apo"),  # an output that feeds another
        ({"p": ["x"], "o": ["x"]}, "op", "xop"),
    ],
)
def test_outputs_come_as_early_as_they_can(graph: dict[str, list[str]], outputs: str, expected: str) -> None:
    assert order(graph, outputs) == expected


def test_nodes_may_join_while_others_are_done() -> None:
    graph = {"o": ["a"], "p": ["a", "b"]}
    agenda = Agenda(lambda each: graph.get(each, []), lambda each: each in "op")
    agenda.add("o")
    assert agenda.next() == "a"
    agenda.finish("a")
    agenda.add("p")
    assert agenda.next() == "o"
    agenda.finish("o")
    assert agenda.next() == "b"
    assert agenda.next() is None
    agenda.finish("b")
    assert agenda.next() == "p"


def test_a_circle_leaves_its_nodes_waiting() -> None:
    graph = {"o": ["a"], "a": ["b"], "b": ["a"]}
    agenda = Agenda(lambda each: graph.get(each, []), lambda each: each == "o")
    agenda.add("o")
    assert agenda.next() is None
    assert agenda.waiting() == ["o", "a", "b"]


def seconds(size: int) -> float:
    """Many outputs that share one node which many others feed: every pair is two steps apart."""
    feeders = {"hub": [f"in {number}" for number in range(size)]}
    agenda = Agenda(
        lambda each: feeders.get(each, ["hub"] if each.startswith("out") else []), lambda each: each[0] == "o"
    )
    start = time.process_time()
    for number in range(size):
        agenda.add(f"out {number}")
    while (node := agenda.next()) is not None:
        agenda.finish(node)
    return time.process_time() - start


def test_a_hub_between_many_nodes_takes_linear_time() -> None:
    assert min(seconds(20_000) for _ in range(3)) < 30 * min(seconds(2_000) for _ in range(3)) + 0.05
