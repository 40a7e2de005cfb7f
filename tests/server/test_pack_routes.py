"""A server whose node packs answer HTTP requests, and the same packs where that is off."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from tests.support.tree import Tree, eventually, serving

PACKS = Path(__file__).parents[1] / "data" / "route_packs"


@pytest.fixture(scope="module")
def routed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tree]:
    options = ("--custom-nodes", str(PACKS), "--custom-node-routes")
    with serving(tmp_path_factory.mktemp("routed") / "data", *options) as tree:
        eventually(lambda: tree.get("/object_info/RoutedWait"), seconds=60, what="the pack's node is offered")
        yield tree


def test_handlers_get_what_was_sent(routed: Tree) -> None:
    http = routed.http
    told = http.get("/api/routed/hello", params={"name": "a b"}, headers={"X-Told": "yes"})
    assert told.json() == {"name": "a b", "header": "yes"}
    assert http.post("/routed/keep/one%2Ftwo", json={"a": 1}).status_code == 201
    assert http.get("/routed/keep/one%2Ftwo").json() == {"a": 1}
    sent = http.post("/routed/form", data={"text": "t"}, files={"file": ("a.bin", bytes(1000))})
    assert sent.json() == {"text": "t", "name": "a.bin", "size": 1000}
    assert http.get("/added/files/told.json").json() == {"lies": "here"}
    came = http.get("/routed/what-came", headers={"Cookie": "a=b", "Authorization": "Bearer x"}).json()
    assert not came.keys() & {"cookie", "authorization"}


def test_answers_are_made_harmless(routed: Tree) -> None:
    page = routed.http.get("/routed/page")
    assert page.text == "<script>alert(1)</script>"
    assert page.headers["content-type"] == "application/octet-stream"
    assert (page.headers["x-content-type-options"], page.headers["cache-control"]) == ("nosniff", "no-store")
    assert not page.headers.keys() & {"set-cookie", "location"}
    moved = routed.http.get("/routed/moved")
    assert (moved.status_code, moved.headers["location"]) == (302, "/routed/hello")


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/routed/raises", 500, "node_pack_error"),
        ("/routed/ends", 500, "node_pack_error"),
        ("/routed/endless?kind=text/event-stream", 501, "not_implemented"),
        (f"/routed/large?bytes={8 * 2**20 + 1}", 501, "not_implemented"),
    ],
)
def test_what_cannot_be_answered_is_told(routed: Tree, path: str, status: int, code: str) -> None:
    [engine] = routed.processes()["engine"]
    answer = routed.http.get(path)
    assert (answer.status_code, answer.json()["error"]["type"]) == (status, code)
    assert routed.http.get("/routed/hello").status_code == 200
    assert routed.processes()["engine"] == [engine]


def test_an_answer_of_the_largest_size_and_a_body_that_is_too_large(routed: Tree) -> None:
    assert routed.http.get(f"/routed/large?bytes={8 * 2**20}").content == bytes(8 * 2**20)
    assert routed.http.post("/routed/size", content=bytes(2**20)).json() == {"size": 2**20}
    assert routed.http.post("/routed/size", content=bytes(2**20 + 1)).status_code == 413


def test_handlers_answer_while_a_workflow_runs(routed: Tree) -> None:
    prompt_id = routed.post({"1": {"class_type": "RoutedWait", "inputs": {}}})
    eventually(lambda: routed.get("/routed/beside")["runs"], seconds=30, what="the node runs, and a handler says so")
    assert routed.http.post("/routed/go-on").status_code == 200
    assert routed.wait_history([prompt_id])[prompt_id]["outputs"] == {"1": {"text": ["gone on"]}}


def test_paths_of_limner_and_comfyui_stay_theirs(routed: Tree) -> None:
    assert "taken" not in routed.get("/system_stats")
    assert routed.http.get("/users").status_code == 404
    unknown = routed.http.get("/routed/unknown")
    assert (unknown.status_code, unknown.content) == (404, b"")


def test_the_engine_listens_nowhere(routed: Tree) -> None:
    [engine] = routed.processes()["engine"]
    assert routed.http.get("/routed/hello").status_code == 200
    assert [each for each in engine.net_connections() if each.status == psutil.CONN_LISTEN] == []


def test_without_the_option_no_route_is_there(tmp_path: Path) -> None:
    with serving(tmp_path / "data", "--custom-nodes", str(PACKS)) as tree:
        eventually(lambda: tree.get("/object_info/RoutedWait"), seconds=60, what="the pack's node is offered")
        known: httpx.Response = tree.http.get("/routed/hello")
        unknown = tree.http.get("/no/such/path")
        assert (known.status_code, known.content) == (unknown.status_code, unknown.content) == (404, b"")
