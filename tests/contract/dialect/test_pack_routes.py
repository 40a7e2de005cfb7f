"""Requests to routes of node packs: carried to a worker that has them, where that is on, never instead of others."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import websockets

from limner.blobs.keys import answer_key
from limner.bus import subjects
from limner.bus.messages import CatalogueOffer, Message, Route, Routed
from limner.graph.catalogue import Catalogue
from tests.contract.dialect.stack import Stack, listening, stack

Answer = Callable[[dict[str, Any], bytes], Awaitable[Routed]]


async def echo(asked: dict[str, Any], body: bytes) -> Routed:
    """Says what came."""
    told = json.dumps({**asked, "body": body.decode()}).encode()
    headers = [["Content-Type", "application/json; charset=utf-8"]]
    return answered(headers, told)


def answered(headers: list[list[str]] | None = None, body: bytes = b"", status: int = 200) -> Routed:
    answer = {"routed": True, "status": status, "headers": headers or [], "fault": None}
    return Routed(answer=answer, body=base64.b64encode(body).decode())


@dataclass
class Workers:
    """Workers that offer routes and answer requests to them."""

    gateway: Stack
    asked: list[str] = field(default_factory=list)

    async def come(self, worker: str, *routes: tuple[str, str], answer: Answer = echo, there: bool = True) -> None:
        declared = tuple({"method": method, "path": path} for method, path in routes)
        catalogue = replace(Catalogue.core(), routes=declared)
        offer = CatalogueOffer(worker=worker, pool="default", digest=catalogue.digest, catalogue=catalogue.to_json())
        assert (await self.gateway.services.catalogues.offer(offer)).ok

        async def respond(body: bytes) -> Message:
            self.asked.append(worker)
            request = Route.decode(body)
            return await answer(request.asked, base64.b64decode(request.body))

        if there:
            await self.gateway.services.bus.serve(subjects.route(worker), subjects.WORKERS, respond)

    @property
    def http(self) -> httpx.AsyncClient:
        return self.gateway.http


@pytest.fixture
async def workers(tmp_path: Path) -> AsyncIterator[Workers]:
    async with stack(tmp_path, custom_node_routes=True) as made:
        yield Workers(made)


async def test_a_request_reaches_the_pack_without_credentials(workers: Workers) -> None:
    await workers.come("w", ("POST", "/pack/{key}"))
    headers = {
        "cookie": "a=b",
        "authorization": "Bearer x",
        "x-api-key": "y",
        "x-told": "yes",
        "content-type": "text/x",
    }
    told = (await workers.http.post("/pack/a%20b%2Fc?q=1&q=%C3%A4", content="body", headers=headers)).json()
    assert (told["method"], told["path"], told["query"]) == ("POST", "/pack/a%20b%2Fc", "q=1&q=%C3%A4")
    assert told["body"] == "body"
    got = dict(told["headers"])
    assert (got["x-told"], got["content-type"], got["host"]) == ("yes", "text/x", "127.0.0.1:8188")
    assert not got.keys() & {"cookie", "authorization", "x-api-key", "connection", "content-length"}


async def test_every_route_answers_below_api_as_well(workers: Workers) -> None:
    await workers.come("w", ("GET", "/pack/one"), ("GET", "/api/etn/languages"))
    assert (await workers.http.get("/api/pack/one")).json()["path"] == "/pack/one"
    assert (await workers.http.get("/api/etn/languages")).json()["path"] == "/api/etn/languages"


async def test_without_the_setting_there_is_no_such_path(gateway: Stack) -> None:
    packed = Workers(gateway)
    await packed.come("w", ("GET", "/pack/one"))
    answer = await gateway.http.get("/pack/one")
    assert (answer.status_code, answer.content, packed.asked) == (404, b"", [])


async def test_what_no_pack_has_is_an_unknown_path(workers: Workers) -> None:
    async def unrouted(_asked: dict[str, Any], _body: bytes) -> Routed:
        return Routed(answer={"routed": False})

    await workers.come("w", ("GET", "/pack/{key}"), answer=unrouted)
    for path in ("/other", "/pack/one"):
        answer = await workers.http.get(path)
        assert (answer.status_code, answer.content) == (404, b"")
    assert workers.asked == ["w"]
    assert (await workers.http.post("/pack/one")).status_code == 404


@pytest.mark.parametrize(
    "path",
    ["/", "/prompt", "/api/prompt", "/system_stats", "/users", "/users/", "/settings/x", "/userdata/a%2Fb", "/v1/jobs",
     "/api/v2/jobs", "/readyz", "/internal/logs", "/object_info/x", "/extensions/pack/a.js"],
)  # fmt: skip
async def test_no_pack_takes_over_what_is_limners_or_comfyuis(workers: Workers, path: str) -> None:
    every = [(method, pattern) for method in ("*", "GET", "PATCH") for pattern in (path, "/{all}", "{all}")]
    await workers.come("w", *every)
    for method in ("GET", "PATCH"):
        await workers.http.request(method, path)
    assert workers.asked == []
    assert (await workers.http.patch("/prompt")).status_code == 405


async def test_only_harmless_headers_and_types_come_back(workers: Workers) -> None:
    given = [["Content-Type", "text/html"], ["Set-Cookie", "a=b"], ["Location", "//elsewhere.example"], ["ETag", "x"]]

    async def page(_asked: dict[str, Any], _body: bytes) -> Routed:
        return answered([*given, ["Access-Control-Allow-Origin", "*"]], b"<script>", 200)

    await workers.come("w", ("GET", "/pack/page"), answer=page)
    answer = await workers.http.get("/pack/page")
    assert answer.headers["content-type"] == "application/octet-stream"
    assert (answer.headers["x-content-type-options"], answer.headers["etag"]) == ("nosniff", "x")
    assert not answer.headers.keys() & {"set-cookie", "location", "access-control-allow-origin"}


async def test_a_fault_is_told_in_json(workers: Workers) -> None:
    async def hang(_asked: dict[str, Any], _body: bytes) -> Routed:
        return Routed(answer={"routed": True, "status": 504, "headers": [], "fault": ["timeout", "too slow"]})

    await workers.come("w", ("GET", "/pack/slow"), answer=hang)
    answer = await workers.http.get("/pack/slow")
    assert (answer.status_code, answer.json()["error"]["type"], answer.json()["error"]["message"]) == (
        504,
        "timeout",
        "too slow",
    )


async def test_a_large_answer_comes_by_the_store_and_leaves_nothing_there(workers: Workers) -> None:
    blobs = workers.gateway.services.blobs

    async def large(_asked: dict[str, Any], _body: bytes) -> Routed:
        await blobs.put(answer_key("x"), bytes(2**21))
        return replace(answered(), key=answer_key("x"))

    await workers.come("w", ("GET", "/pack/large"), answer=large)
    assert (await workers.http.get("/pack/large")).content == bytes(2**21)
    assert await blobs.size(answer_key("x")) is None


async def test_an_answer_that_lies_elsewhere_in_the_store_is_not_read(workers: Workers) -> None:
    async def stolen(_asked: dict[str, Any], _body: bytes) -> Routed:
        return replace(answered(), key="t/other/inputs/x")

    await workers.gateway.services.blobs.put("t/other/inputs/x", b"theirs")
    await workers.come("w", ("GET", "/pack/x"), answer=stolen)
    assert (await workers.http.get("/pack/x")).status_code == 503


async def test_a_body_of_more_than_a_mebibyte_is_refused(workers: Workers) -> None:
    await workers.come("w", ("POST", "/pack/x"))
    assert (await workers.http.post("/pack/x", content=b"a" * 2**20)).status_code == 200
    answer = await workers.http.post("/pack/x", content=b"a" * (2**20 + 1))
    assert (answer.status_code, answer.json()["error"]["type"]) == (413, "payload_too_large")


async def test_of_two_workers_the_one_with_the_pack_is_asked_and_always_the_same(workers: Workers) -> None:
    await workers.come("other", ("GET", "/other"))
    await workers.come("b", ("GET", "/pack/x"))
    await workers.come("a", ("GET", "/pack/x"))
    for _ in range(3):
        await workers.http.get("/pack/x")
    assert workers.asked == ["a"] * 3


async def test_a_worker_that_is_away_leaves_it_to_the_next(workers: Workers) -> None:
    await workers.come("a", ("GET", "/pack/x"), there=False)
    away = await workers.http.get("/pack/x")
    assert (away.status_code, away.json()["error"]["type"], away.headers["retry-after"]) == (
        503,
        "dependency_unavailable",
        "1",
    )
    await workers.come("b", ("GET", "/pack/x"))
    assert (await workers.http.get("/pack/x")).status_code == 200


@pytest.mark.parametrize("header", [{"origin": "http://evil.example"}, {"sec-fetch-site": "cross-site"}])
async def test_pages_of_other_sites_get_nothing(workers: Workers, header: dict[str, str]) -> None:
    await workers.come("w", ("GET", "/pack/x"))
    assert (await workers.http.get("/pack/x", headers=header)).status_code == 403
    assert (await workers.http.get("/pack/x", headers={"origin": "null"})).status_code == 403
    assert workers.asked == []


async def test_websockets_are_refused_with_a_reason(workers: Workers) -> None:
    await workers.come("w", ("GET", "/pack/socket"))
    async with listening(workers.gateway.app) as address:
        for path, status, said in (("/pack/socket", 501, b"not_implemented"), ("/other", 403, b"")):
            with pytest.raises(websockets.InvalidStatus) as refused:
                await websockets.connect(f"ws://{address}{path}")
            assert refused.value.response.status_code == status
            assert said in refused.value.response.body
