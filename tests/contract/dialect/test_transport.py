"""What holds for every route: prefixes, methods, origins, sizes, ids, and errors that nobody expected."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import sqlite3
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
import structlog

from limner import logs
from tests.contract.dialect.stack import Stack, listening, picture_workflow, stack
from tests.unit.comfy.recordings import TRANSCRIPTS


@pytest.mark.parametrize("prefix", ["", "/api"])
@pytest.mark.parametrize(
    "path", ["/prompt", "/queue", "/history", "/object_info", "/system_stats", "/features", "/embeddings", "/models"]
)
async def test_every_route_exists_twice_and_head_works_like_get(gateway: Stack, prefix: str, path: str) -> None:
    answer = await gateway.http.get(prefix + path)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json; charset=utf-8"
    head = await gateway.http.head(prefix + path)
    assert (head.status_code, head.content) == (200, b"")


async def test_an_unknown_path_is_a_404_without_a_body(gateway: Stack) -> None:
    for path in ("/nope", "/api/nope", "/prompt/", "/models/nope"):
        answer = await gateway.http.get(path)
        assert (answer.status_code, answer.content) == (404, b"")


async def test_a_wrong_method_is_a_405_that_names_the_right_ones(gateway: Stack) -> None:
    answer = await gateway.http.put("/prompt", json={})
    assert (answer.status_code, answer.text) == (405, "405: Method Not Allowed")
    assert answer.headers["allow"] == "GET,HEAD,POST"
    assert (await gateway.http.post("/system_stats")).headers["allow"] == "GET,HEAD"


async def test_options_is_answered_on_any_path(gateway: Stack) -> None:
    for path in ("/prompt", "/nope"):
        answer = await gateway.http.options(path)
        assert (answer.status_code, answer.content) == (200, b"")


async def test_origins_are_judged_as_recorded(gateway: Stack) -> None:
    for each in json.loads((TRANSCRIPTS / "36_origin_host.json").read_text())["exchanges"]:
        request, response = each["request"], each["response"]
        answer = await gateway.http.request(request["method"], request["path"], headers=request.get("headers", {}))
        assert answer.status_code == response["status"], request


async def test_a_sandboxed_frame_may_look_and_change_nothing(gateway: Stack) -> None:
    sandboxed = {"origin": "null"}
    for method in ("GET", "HEAD", "OPTIONS"):
        assert (await gateway.http.request(method, "/prompt", headers=sandboxed)).status_code == 200
    for path, body in (("/prompt", json.dumps({"prompt": picture_workflow()})), ("/interrupt", ""), ("/queue", "{}")):
        answer = await gateway.http.post(path, content=body, headers=sandboxed)
        assert (answer.status_code, answer.content) == (403, b"")
    proxied = {**sandboxed, "host": "limner.example"}
    assert (await gateway.http.post("/interrupt", headers=proxied)).status_code == 200


@pytest.fixture
async def small(tmp_path: Path) -> AsyncIterator[Stack]:
    async with stack(tmp_path, max_upload_bytes=1049) as made:
        yield made


async def test_a_body_over_the_limit_is_refused_in_comfyuis_words(small: Stack) -> None:
    text = "Maximum request body size 1049 exceeded."

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b" " * 100

    answers = [
        await small.http.post("/prompt", json={"prompt": picture_workflow(), "pad": "y" * 2000}),
        await small.http.post("/prompt", content=pieces()),
        await small.http.post("/upload/image", files={"image": ("big.png", b"x" * 3000)}),
    ]
    for answer in answers:
        assert (answer.status_code, answer.text) == (413, text)
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert (await small.http.get("/features")).json()["max_upload_size"] == 1049


async def test_json_has_a_limit_of_its_own_and_files_do_not_share_it(gateway: Stack) -> None:
    large = b" " * (16 * 2**20 + 1)
    for path in ("/prompt", "/queue", "/history", "/free", "/interrupt"):
        answer = await gateway.http.post(path, content=large)
        assert (answer.status_code, answer.text) == (413, "Maximum request body size 16777216 exceeded."), path
    assert (await gateway.http.post("/upload/image", files={"image": ("big.bin", large)})).status_code == 200


async def test_an_endless_length_is_refused(gateway: Stack) -> None:
    answer = await gateway.http.post("/prompt", content=b"x", headers={"content-length": "9" * 5000})
    assert answer.status_code == 413


async def test_a_too_long_body_is_refused_over_a_real_connection(small: Stack) -> None:
    async with listening(small.app) as address, httpx.AsyncClient(base_url=f"http://{address}") as http:
        answer = await http.post("/prompt", content=b"x" * 5000)
        assert answer.status_code == 413
        assert (await http.get("/prompt")).status_code == 200


async def test_every_answer_carries_a_request_id(gateway: Stack) -> None:
    assert len((await gateway.http.get("/prompt")).headers["x-request-id"]) == 32
    given = await gateway.http.get("/nope", headers={"x-request-id": "mine-1"})
    assert given.headers["x-request-id"] == "mine-1"
    odd = await gateway.http.get("/prompt", headers={b"x-request-id": b"a b\xe9" * 100})
    assert len(odd.headers["x-request-id"]) == 32


@pytest.fixture
def logged() -> Iterator[io.StringIO]:
    out = io.StringIO()
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    logs.setup("json", "info", out)
    yield out
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


async def test_an_unexpected_error_is_logged_and_never_shown(gateway: Stack, logged: io.StringIO) -> None:
    async def broken() -> None:
        raise ZeroDivisionError("secret detail")

    gateway.app.add_api_route("/broken", broken)
    answer = await gateway.http.get("/broken", headers={"x-request-id": "r1"})
    assert answer.status_code == 500
    assert answer.headers["x-request-id"] == "r1"
    error = answer.json()["error"]
    assert error["type"] == "internal"
    assert error["extra_info"] == {"request_id": "r1"}
    assert "secret" not in answer.text
    (line,) = [json.loads(line) for line in logged.getvalue().splitlines()]
    assert "ZeroDivisionError: secret detail" in line["exception"]
    assert (line["request_id"], line["path"]) == ("r1", "/broken")


async def test_a_database_that_is_gone_is_a_503(gateway: Stack) -> None:
    await gateway.db.close()
    answer = await gateway.http.get("/prompt")
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"
    assert answer.json()["error"]["type"] == "dependency_unavailable"
    ready = await gateway.http.get("/readyz")
    assert ready.status_code == 503
    assert ready.json()["checks"]["database"]["status"] == "failed"
    assert (await gateway.http.get("/livez")).status_code == 200


async def test_a_working_gateway_is_ready(gateway: Stack) -> None:
    answer = await gateway.http.get("/readyz")
    assert answer.status_code == 200
    assert {name: check["status"] for name, check in answer.json()["checks"].items()} == {
        "database": "ok",
        "storage": "ok",
    }


async def test_a_database_that_cannot_be_written_is_not_ready(
    gateway: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("limner.gateway.routes.health.TIMEOUT_SECONDS", 0.2)
    with sqlite3.connect(tmp_path / "limner.db") as other:
        other.execute("BEGIN IMMEDIATE")
        assert (await gateway.http.get("/prompt")).status_code == 200
        ready = await gateway.http.get("/readyz")
        other.rollback()
    assert ready.status_code == 503
    assert ready.json()["checks"]["database"]["status"] == "failed"


async def test_a_gateway_that_drains_is_not_ready_but_lives_and_answers(gateway: Stack) -> None:
    gateway.services.draining.set()
    ready = await gateway.http.get("/readyz")
    assert (ready.status_code, ready.json()["status"]) == (503, "draining")
    for path in ("/livez", "/prompt"):
        assert (await gateway.http.get(path)).status_code == 200


async def test_the_home_page_says_what_this_is(gateway: Stack) -> None:
    answer = await gateway.http.get("/")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "Limner runs" in answer.text
    for link in ("/object_info", "/queue", "/system_stats"):
        assert f'href="{link}"' in answer.text
        assert (await gateway.http.get(link)).status_code == 200


async def test_a_caller_that_leaves_in_the_middle_harms_nobody(gateway: Stack) -> None:
    async with listening(gateway.app) as address:
        host, port = address.split(":")
        _, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"POST /prompt HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{")
        await writer.drain()
        writer.close()
        async with httpx.AsyncClient(base_url=f"http://{address}") as http:
            assert (await http.get("/prompt")).status_code == 200
