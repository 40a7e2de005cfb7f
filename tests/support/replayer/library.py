"""All recorded runs and refusals, found by the graph that a client submits."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from tests.support.recordings import DATA, recording
from tests.support.replayer.script import Script, scripts

WITH_RUNS = tuple(f"{n:02}" for n in (1, 2, 3, 5, 11, 12, 20, 21, 22, 24, 30, 42, 43, *range(53, 59), 60, 61))
WITH_REFUSALS = ("05", "10")
OBJECT_INFO = DATA / "replayer" / "object_info.json"


@dataclass(frozen=True, slots=True)
class Refusal:
    graph: Any
    answer: dict[str, Any]


@dataclass(slots=True)
class Library:
    scripts: list[Script]
    refusals: list[Refusal]
    object_info: dict[str, Any]
    _seen: dict[str, int] = field(default_factory=dict)  # graph -> runs of it that ended, as a cache would know

    @staticmethod
    def recorded() -> Library:
        return Library(list(_scripts()), list(_refusals()), json.loads(OBJECT_INFO.read_text()))

    def script(self, graph: dict[str, Any]) -> Script | None:
        """The run of this very graph (a later one if it ran before), else one of the same nodes and links."""
        same = [each for each in self.scripts if self.same(each.graph, graph)]
        if same:
            return same[min(self._seen.get(_key(graph), 0), len(same) - 1)]
        alike = [each for each in self.scripts if _shape(each.graph) == _shape(graph)]
        return min(alike, key=lambda each: (not each.succeeded, len(each.cached)), default=None)

    def same(self, one: dict[str, Any], other: dict[str, Any]) -> bool:
        return bool(_exact(one) == _exact(other))

    def refusal(self, graph: Any) -> Refusal | None:
        return next((each for each in self.refusals if each.graph == graph), None)

    def ended(self, graph: dict[str, Any]) -> None:
        self._seen[_key(graph)] = self._seen.get(_key(graph), 0) + 1

    def forget(self) -> None:
        """Nothing is in the cache any more."""
        self._seen.clear()


@cache
def _scripts() -> tuple[Script, ...]:
    return tuple(each for name in WITH_RUNS for each in scripts(name))


@cache
def _refusals() -> tuple[Refusal, ...]:
    return tuple(
        Refusal(exchange["request"]["json"]["prompt"], exchange["response"]["json"])
        for name in WITH_REFUSALS
        for exchange in recording(name)["exchanges"]
        if exchange["response"]["status"] == 400
        and isinstance(exchange["request"].get("json"), dict)
        and exchange["request"]["json"].get("prompt")
        and "partial_execution_targets" not in exchange["request"]["json"]
    )


def _key(graph: dict[str, Any]) -> str:
    return json.dumps(_exact(graph), sort_keys=True, default=str)


def _exact(graph: dict[str, Any]) -> Any:
    """What decides the results: classes and inputs. A file counts by its own name, in whatever folder it lies."""
    return {
        node_id: (node.get("class_type"), {name: _base(value) for name, value in node.get("inputs", {}).items()})
        for node_id, node in graph.items()
    }


def _shape(graph: dict[str, Any]) -> Any:
    return {
        node_id: (node.get("class_type"), sorted(_links(node.get("inputs", {}).items())))
        for node_id, node in graph.items()
    }


def _links(inputs: Iterable[tuple[str, Any]]) -> Iterable[tuple[str, str]]:
    return ((name, json.dumps(value)) for name, value in inputs if isinstance(value, list))


def _base(value: Any) -> Any:
    return value.rsplit("/", 1)[-1] if isinstance(value, str) else value
