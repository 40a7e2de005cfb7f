"""What the executor itself costs: microseconds per node that does nothing, at 1,000 and at 10,000 nodes.

    python bench/executor.py

Prints one JSON object: a first run, the same again from the cache, and validation of the same workflows.
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
from limner.engine.library import NodeLibrary
from limner.graph.catalogue import Catalogue
from limner.graph.spec import Result, node
from limner.graph.types import Int, Socket
from limner.graph.validate import validate

SIZES = (1_000, 10_000)
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


LIBRARY = NodeLibrary.of([add, start, end])
CATALOGUE = Catalogue(nodes=LIBRARY.specs)


class NoFiles:
    """The nodes here neither read nor write."""

    def input(self, reference: str) -> Path:
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
    }


def _validate(graph: dict[str, Any]) -> None:
    validate(graph, CATALOGUE)


if __name__ == "__main__":
    print(json.dumps({"executor": [measure(size) for size in SIZES]}, indent=2))
