"""What lives on from run to run beside results: objects of nodes, and what makes results outdated."""

from __future__ import annotations

from typing import Annotated, Any

import pytest

from limner.engine.cache import OutputCache
from limner.engine.context import RunContext
from limner.engine.events import NodeRef, RunSucceeded
from limner.engine.executor import Executor
from limner.engine.kept import MOST_TENANTS, KeptObjects
from limner.engine.library import NodeLibrary
from limner.engine.policy import CachePolicy
from limner.graph.kinds import Result
from limner.graph.node import node
from limner.graph.types import Files
from tests.support.toys import ToyFiles
from tests.unit.engine.classes import ClassNode
from tests.unit.engine.runs import Bench


class Counter:
    def __init__(self) -> None:
        self.calls = 0


def count(instance: Counter, **inputs: Any) -> Result:
    instance.calls += 1
    return Result(values=(instance.calls,), ui={"calls": [instance.calls]})


COUNT = ClassNode("Count", count, make=Counter, output=True, fingerprint=lambda inputs: float("nan"))
OTHER = ClassNode("Other", count, make=Counter, output=True, fingerprint=lambda inputs: float("nan"))


def calls(bench: Bench, *nodes: tuple[str, str], tenant: str = "default") -> dict[str, int]:
    graph = {node_id: {"class_type": kind, "inputs": {"v": 1}} for node_id, kind in nodes}
    result = bench.run(graph, tuple(graph), tenant=tenant)
    assert isinstance(result.end, RunSucceeded)
    return {node_id: ui["calls"][0] for node_id, ui in result.outputs.items()}


def test_a_nodes_object_lives_on_as_long_as_the_workflow_has_the_node() -> None:
    bench = Bench(library=NodeLibrary([COUNT, OTHER]))
    assert calls(bench, ("1", "Count"), ("2", "Count")) == {"1": 1, "2": 1}
    assert calls(bench, ("1", "Count"), ("2", "Other")) == {"1": 2, "2": 1}
    assert calls(bench, ("2", "Count")) == {"2": 1}
    assert calls(bench, ("1", "Count"), ("2", "Count")) == {"1": 1, "2": 2}


def test_no_tenant_gets_anothers_object() -> None:
    bench = Bench(library=NodeLibrary([COUNT]))
    assert [calls(bench, ("1", "Count"), tenant=tenant)["1"] for tenant in "abab"] == [1, 1, 2, 2]


def test_objects_are_forgotten_with_the_results() -> None:
    bench = Bench(library=NodeLibrary([COUNT]))
    calls(bench, ("1", "Count"))
    bench.executor.forget()
    assert calls(bench, ("1", "Count")) == {"1": 1}


def test_objects_of_nodes_made_by_expansion_live_with_the_node_in_whose_place_they_are() -> None:
    kept = KeptObjects()
    kept.keep_only("t", {"1": "Parent"})
    child = kept.get("t", "1.0.0.1", "Count", real="1", make=Counter)
    kept.keep_only("t", {"1": "Parent"})
    assert kept.get("t", "1.0.0.1", "Count", real="1", make=Counter) is child
    kept.keep_only("t", {"2": "Parent"})
    assert kept.get("t", "1.0.0.1", "Count", real="1", make=Counter) is not child


def test_of_the_tenants_who_ran_longest_ago_no_objects_are_kept() -> None:
    kept = KeptObjects()
    made = {}
    for number in range(MOST_TENANTS + 1):
        kept.keep_only(str(number), {"1": "Count"})
        made[number] = kept.get(str(number), "1", "Count", real="1", make=Counter)
    assert kept.get("1", "1", "Count", real="1", make=Counter) is made[1]
    assert kept.get("0", "1", "Count", real="1", make=Counter) is not made[0]


async def same_later(inputs: dict[str, Any]) -> str:
    return "same"


def raises(inputs: dict[str, Any]) -> str:
    raise RuntimeError("cannot tell")


def leaves(inputs: dict[str, Any]) -> str:
    raise SystemExit(1)


@pytest.mark.parametrize(
    ("fingerprint", "made"),
    [
        (lambda inputs: "same", 1),
        (lambda inputs: object(), 2),  # what JSON cannot hold is never equal
        (lambda inputs: float("nan"), 2),
        (lambda inputs: [1, {"a": 2}], 1),
        (lambda inputs: b"digest", 1),
        (same_later, 1),
        (raises, 2),
        (leaves, 2),
    ],
)
def test_how_often_a_node_runs_is_its_fingerprints_to_say(fingerprint: Any, made: int) -> None:
    done = []

    def note(instance: None, **inputs: Any) -> Result:
        done.append(1)
        return Result(values=(1,))

    bench = Bench(library=NodeLibrary([ClassNode("Note", note, output=True, fingerprint=fingerprint)]))
    for _ in range(2):
        assert isinstance(bench.run({"1": {"class_type": "Note", "inputs": {"v": 1}}}, ("1",)).end, RunSucceeded)
    assert len(done) == made


@pytest.mark.parametrize(("whole", "seen"), [(False, {"v": None, "w": 5}), (True, {"v": (None,), "w": [5]})])
def test_a_fingerprint_gets_what_is_known_before_the_run(whole: bool, seen: dict[str, Any]) -> None:
    got: list[Any] = []
    kind = ClassNode("Note", inputs={"v": "*", "w": "*"}, output=True, whole=whole, fingerprint=got.append)
    bench = Bench(library=NodeLibrary([kind]))
    graph = {
        "1": {"class_type": "Note", "inputs": {"v": ["2", 0], "w": 5}},
        "2": {"class_type": "Note", "inputs": {"v": 1, "w": 2}},
    }
    bench.run(graph, ("1",))
    assert seen in got


Checkpoint = Annotated[str, Files("checkpoints")]


@node("Load", category="toy", outputs=("MODEL",))
def load(*, name: Checkpoint) -> Any:
    return name


@pytest.mark.parametrize("policy", ["classic", "lru=9", "ram=1"])
def test_a_model_file_replaced_under_its_name_is_loaded_again(policy: str) -> None:
    marks = {("checkpoints", "a.safetensors"): (100, 1)}
    ran = []

    def note(instance: None, **inputs: Any) -> Result:
        ran.append(1)
        return Result(values=(1,))

    library = NodeLibrary([ClassNode("Use", note, output=True), *NodeLibrary.of([load]).values()])
    executor = Executor(
        library,
        OutputCache(policy=CachePolicy.parse(policy)),
        file_mark=lambda folder, name: marks.get((folder, name)),
    )
    graph = {
        "1": {"class_type": "Load", "inputs": {"name": "a.safetensors"}},
        "2": {"class_type": "Use", "inputs": {"v": ["1", 0]}},
    }

    def run() -> int:
        ctx = RunContext(
            prompt_id="p", tenant="t", node=NodeRef.plain(""), prompt=graph, extra_pnginfo=None, files=ToyFiles()
        )
        executor.run(workflow=graph, outputs=("2",), ctx=ctx, emit=lambda _: None, interrupted=lambda: False)
        return len(ran)

    assert [run(), run()] == [1, 1]
    marks["checkpoints", "a.safetensors"] = (100, 2)
    assert [run(), run()] == [2, 2]
    marks.clear()  # gone: what was made with it is not answered either
    assert run() == 3
