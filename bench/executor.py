"""What the executor itself costs: microseconds per node that does nothing, at 1,000 and at 10,000 nodes.

    python bench/executor.py

Prints one JSON object: a first run, the same again from the cache, and validation of the same workflows; a node in
whose place a graph of so many nodes runs; a node that is called for each item of a list; and milliseconds for a small
workflow that is all in the cache.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from limner.engine.cache import OutputCache
from limner.engine.context import RunContext, SavedFile
from limner.engine.events import NodeRef, RunSucceeded
from limner.engine.executor import Executor
from limner.engine.graph_builder import GraphBuilder
from limner.engine.library import NodeLibrary
from limner.graph.catalogue import Catalogue
from limner.graph.kinds import Result
from limner.graph.node import node
from limner.graph.spec import OutputSpec
from limner.graph.types import Int, Socket
from limner.graph.validate import validate

SIZES = (1_000, 10_000)
SMALL = 10
REPEATS = 5
Number = Annotated[int, Socket("INT")]


@node("Add", category="bench")
def add(*, left: Number, right: Number, salt: Annotated[int, Int(0, 1_000_000)] = 0) -> Number:
    return left


@node("Start", category="bench")
def start(*, value: Annotated[int, Int(0, 100)] = 1) -> Number:
    return value


@node("End", category="bench", outputs=(), output_node=True)
def end(*, value: Number) -> Result:
    return Result(ui={"text": [str(value)]})


@node("Grow", category="bench", outputs=("INT",))
def grow(*, size: Annotated[int, Int(1, 1_000_000)] = 1) -> Result:
    graph = GraphBuilder()
    last: Any = 1
    for salt in range(size):
        last = graph.node("Add", left=last, right=1, salt=salt).out(0)
    return Result(values=(last,), expand=graph.finalize())


@node("Count", category="bench", outputs=(OutputSpec(name="items", type="INT", is_list=True),))
def count_up(*, size: Annotated[int, Int(1, 1_000_000)] = 1) -> list[int]:
    return list(range(size))


LIBRARY = NodeLibrary.of([add, start, end, grow, count_up])
CATALOGUE = Catalogue(nodes=LIBRARY.specs)


class NoFiles:
    """The nodes here neither read nor write."""

    def input(self, reference: str) -> Path:
        raise NotImplementedError

    def adopt(self, path: Path, *, type: str, subfolder: str, filename: str) -> SavedFile:
        raise NotImplementedError

    def reserve(
        self, *, type: str, prefix: str, count: int, width: int, height: int, extension: str
    ) -> list[SavedFile]:
        raise NotImplementedError


def workflow(size: int) -> dict[str, Any]:
    """A chain with links back to its first half; every node differs from the others."""
    nodes: dict[str, Any] = {"0": {"class_type": "Start", "inputs": {"value": 1}}}
    for number in range(1, size - 1):
        inputs = {"left": [str(number - 1), 0], "right": [str(number // 2), 0], "salt": number}
        nodes[str(number)] = {"class_type": "Add", "inputs": inputs}
    nodes[str(size - 1)] = {"class_type": "End", "inputs": {"value": [str(size - 2), 0]}}
    return nodes


def expansion(size: int) -> dict[str, Any]:
    """One node in whose place a chain runs."""
    return {
        "0": {"class_type": "Grow", "inputs": {"size": size}},
        "1": {"class_type": "End", "inputs": {"value": ["0", 0]}},
    }


def listed(size: int) -> dict[str, Any]:
    """One node that is called for each item of a list."""
    return {
        "0": {"class_type": "Count", "inputs": {"size": size}},
        "1": {"class_type": "Add", "inputs": {"left": ["0", 0], "right": 1, "salt": 0}},
        "2": {"class_type": "End", "inputs": {"value": ["1", 0]}},
    }


def run(executor: Executor, graph: dict[str, Any]) -> None:
    ctx = RunContext(
        prompt_id="bench", tenant="bench", node=NodeRef.plain(""), prompt=graph, extra_pnginfo=None, files=NoFiles()
    )
    result = executor.run(
        workflow=graph, outputs=[str(len(graph) - 1)], ctx=ctx, emit=lambda _: None, interrupted=lambda: False
    )
    assert isinstance(result.end, RunSucceeded), result.end


def microseconds_per_node(size: int, work: Callable[[], None], before: Callable[[], None]) -> float:
    """CPU time, the best of some tries: what it takes when nothing else disturbs it."""
    best = float("inf")
    for _ in range(REPEATS):
        before()
        begun = time.process_time()
        work()
        best = min(best, time.process_time() - begun)
    return round(best / size * 1e6, 2)


def measure(size: int) -> dict[str, float]:
    graph = workflow(size)
    cache = OutputCache()
    executor = Executor(LIBRARY, cache)
    return {
        "nodes": size,
        "first_run_us_per_node": microseconds_per_node(size, lambda: run(executor, graph), cache.clear),
        "cached_run_us_per_node": microseconds_per_node(size, lambda: run(executor, graph), lambda: None),
        "validate_us_per_node": microseconds_per_node(size, lambda: _validate(graph), lambda: None),
        "expanded_us_per_node": microseconds_per_node(size, lambda: run(executor, expansion(size)), cache.clear),
        "listed_us_per_item": microseconds_per_node(size, lambda: run(executor, listed(size)), cache.clear),
    }


def measure_small() -> dict[str, float]:
    """All of a small workflow is in the cache: what is left of a run."""
    graph = workflow(SMALL)
    executor = Executor(LIBRARY, OutputCache())
    run(executor, graph)
    return {"nodes": SMALL, "cached_run_ms": microseconds_per_node(1000, lambda: run(executor, graph), lambda: None)}


def _validate(graph: dict[str, Any]) -> None:
    validate(graph, CATALOGUE)


if __name__ == "__main__":
    print(json.dumps({"executor": [measure(size) for size in SIZES], "small": measure_small()}, indent=2))
