"""Nodes that leave their mark on the whole process, or return nonsense: their own run fails, the next one is fine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.tree import Tree, eventually, serving, txt2img

pytestmark = pytest.mark.slow

PACKS = Path(__file__).parents[1] / "data" / "careless_packs"


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tree]:
    with serving(tmp_path_factory.mktemp("careless") / "data", "--custom-nodes", str(PACKS)) as tree:
        eventually(lambda: tree.get("/object_info/Careless"), seconds=60, what="the pack's nodes are offered")
        yield tree


def careless(how: str, kind: str = "Careless") -> dict[str, Any]:
    workflow: dict[str, Any] = {"1": {"class_type": kind, "inputs": {"how": how}}}
    if kind in ("CarelessImage", "CarelessGraph"):
        workflow["2"] = {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}}
    return workflow


def ended(tree: Tree, workflow: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """How a run ended: its status, and the data of its last message."""
    prompt_id = tree.post(workflow)
    status = tree.wait_history([prompt_id])[prompt_id]["status"]
    return status["status_str"], status["messages"][-1][1]


def check_next_is_fine(tree: Tree, seed: int) -> None:
    """A picture with every kind of network: what a node did to torch or to the process would show."""
    status, told = ended(tree, txt2img(seed=seed, steps=1))
    assert status == "success", told


@pytest.mark.parametrize(
    ("seed", "how"),
    list(enumerate(["dtype", "device", "gradients", "threads", "elsewhere", "environment"])),
)
def test_what_a_node_changes_for_the_process_ends_with_its_run(tree: Tree, seed: int, how: str) -> None:
    engine = tree.processes()["engine"][0].pid
    assert ended(tree, careless(how))[0] == "success"
    check_next_is_fine(tree, seed)
    assert tree.processes()["engine"][0].pid == engine


@pytest.mark.parametrize("kind", ["Careless", "CarelessAsync"])
@pytest.mark.parametrize(("how", "name"), [("interrupt", "KeyboardInterrupt"), ("leave", "SystemExit")])
def test_a_node_that_wants_to_end_the_process_fails_alone(tree: Tree, kind: str, how: str, name: str) -> None:
    engine = tree.processes()["engine"][0].pid
    status, told = ended(tree, careless(how, kind))
    assert (status, told["exception_type"], told["node_id"]) == ("error", name, "1")
    assert tree.processes()["engine"][0].pid == engine


@pytest.mark.parametrize(
    ("workflow", "words"),
    [
        (careless("number"), "must return a tuple with a value for each of its 1 outputs"),
        (careless("show much"), "3.0 MB as JSON, 2 MB is the most"),
        (careless("show no list"), "ui must be an object of lists, not str"),
        (careless("mute"), "Mute, which cannot be shown"),
        (careless("flat", "CarelessImage"), "(8, 8)"),
        (careless("empty", "CarelessImage"), "(0, 8, 8, 3)"),
        (careless("unknown class", "CarelessGraph"), "no node NoSuchNode"),
        (careless("link to nowhere", "CarelessGraph"), "node nowhere, which does not exist"),
        (careless("circle", "CarelessGraph"), "Dependency cycle"),
        (careless("no graph", "CarelessGraph"), "list, not an object of nodes by id"),
    ],
)
def test_what_a_node_returns_wrongly_is_named(tree: Tree, workflow: dict[str, Any], words: str) -> None:
    status, told = ended(tree, workflow)
    assert status == "error"
    assert words in told["exception_message"]


def test_a_picture_of_no_numbers_is_saved_all_the_same(tree: Tree) -> None:
    assert ended(tree, careless("nan", "CarelessImage"))[0] == "success"


def test_an_engine_whose_files_were_used_up_is_replaced(tree: Tree) -> None:
    engine = tree.processes()["engine"][0].pid
    status, told = ended(tree, careless("keep files open"))
    assert (status, told["exception_type"]) == ("error", "OSError")
    check_next_is_fine(tree, 77)
    assert tree.processes()["engine"][0].pid != engine
