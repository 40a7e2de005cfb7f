"""Custom nodes that misbehave cost their own job at most: the next one is fine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.tree import Tree, eventually, serving, trivial

DATA = Path(__file__).parents[1] / "data"


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tree]:
    folders = ("--custom-nodes", str(DATA / "packs"), "--custom-nodes", str(DATA / "bad_packs"))
    with serving(tmp_path_factory.mktemp("bad") / "data", *folders) as tree:
        eventually(lambda: tree.get("/object_info/CpEnds"), seconds=60, what="the packs' nodes are offered")
        yield tree


def ends(how: str) -> dict[str, Any]:
    return {"1": {"class_type": "CpEnds", "inputs": {"how": how, "salt": 0}}}


def outcome(tree: Tree, workflow: dict[str, Any]) -> dict[str, Any]:
    prompt_id = tree.post(workflow)
    entry: dict[str, Any] = tree.wait_history([prompt_id])[prompt_id]
    return entry


def test_bad_packs_are_told_in_the_log_and_the_others_are_there(packed: Tree) -> None:
    assert packed.get("/object_info/PartlyGood")
    assert packed.get("/object_info/SingleFile")
    log = packed.log.read_text()
    assert "it needs comfy.utils.something_of_tomorrow, which Limner does not offer" in log
    assert "it wanted to end the process (SystemExit: 7)" in log


def test_a_node_that_exits_fails_and_the_engine_lives(packed: Tree) -> None:
    engine = packed.processes()["engine"][0].pid
    entry = outcome(packed, ends("exit"))
    assert entry["status"]["status_str"] == "error"
    [error] = [data for name, data in entry["status"]["messages"] if name == "execution_error"]
    assert error["exception_type"] == "SystemExit"
    assert outcome(packed, trivial(1))["status"]["status_str"] == "success"
    assert packed.processes()["engine"][0].pid == engine


def test_what_a_node_prints_goes_to_the_log(packed: Tree) -> None:
    assert outcome(packed, ends("print"))["outputs"] == {"1": {"text": ["print"]}}
    eventually(lambda: "and past Python's buffers" in packed.log.read_text(), seconds=10, what="the words are logged")
    assert "words on standard output" in packed.log.read_text()


def test_a_file_outside_of_the_run_is_neither_stored_nor_shown(packed: Tree) -> None:
    shown = outcome(packed, ends("outside"))["outputs"]["1"]["images"]
    [image] = shown
    answer = packed.http.get("/view", params={name: image[name] for name in ("filename", "subfolder", "type")})
    assert answer.status_code in (400, 403, 404)


def test_a_node_that_never_returns_is_ended_with_its_engine_when_it_is_interrupted(packed: Tree) -> None:
    engine = packed.processes()["engine"][0].pid
    prompt_id = packed.post(ends("never"))
    eventually(lambda: packed.get("/queue")["queue_running"], seconds=30, what="it runs")
    packed.http.post("/interrupt", json={"prompt_id": prompt_id})
    entry = packed.wait_history([prompt_id])[prompt_id]
    assert entry["status"]["messages"][-1][0] == "execution_interrupted"
    assert outcome(packed, trivial(2))["status"]["status_str"] == "success"
    assert packed.processes()["engine"][0].pid != engine
    assert packed.get("/object_info/CpEnds"), "the new engine has the packs as well"
    assert outcome(packed, ends("print"))["status"]["status_str"] == "success"
