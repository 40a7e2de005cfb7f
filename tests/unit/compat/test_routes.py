"""HTTP routes of a pack: declared in every way that packs know, answered by real aiohttp requests."""

from __future__ import annotations

import asyncio
import json
import queue
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from limner.compat import packs as loading
from limner.compat.exchange import MOST_ANSWER_BYTES, Answered, Asked
from limner.compat.routes import MOST_AT_ONCE, MOST_REQUEST_BYTES, Routes
from limner.graph.folders import Folders
from tests.unit.compat.conftest import Packs

PACKS = Path(__file__).parents[2] / "data" / "route_packs"
LIMIT = 60.0
"""Seconds, as long as no handler is meant to exceed them."""


class Pack:
    """The pack's routes, with a way to ask them."""

    def __init__(self, server: Any, seconds: float = LIMIT) -> None:
        self.server = server
        self.routes = Routes(server, seconds=seconds)

    def begin(self, method: str, path: str, query: str = "", body: bytes = b"", **headers: str) -> Any:
        answers: queue.SimpleQueue[Answered] = queue.SimpleQueue()
        told = [(name.replace("_", "-"), value) for name, value in headers.items()]
        self.routes.ask(Asked(method=method, path=path, query=query, headers=told, body=body), answers.put)
        return answers

    def ask(self, *args: Any, **kwargs: Any) -> Answered:
        answer: Answered = self.begin(*args, **kwargs).get(timeout=LIMIT)
        return answer

    def json(self, *args: Any, **kwargs: Any) -> Any:
        answer = self.ask(*args, **kwargs)
        assert answer.status < 400, answer
        return json.loads(answer.body)


@pytest.fixture(scope="module")
def pack(loaded: Packs) -> Iterator[Pack]:
    kind = sys.modules["server"].PromptServer
    before, kind.instance = kind.instance, kind()
    try:
        [found] = loading.load(loading.find([PACKS]), core=loaded.kinds.keys(), folders=Folders({}))
        assert not found.fault
        yield Pack(kind.instance)
    finally:
        kind.instance = before


def test_every_route_is_told_with_its_method(pack: Pack) -> None:
    told = {(each["method"], each["path"]) for each in pack.routes.declared}
    assert {
        ("GET", "/routed/hello"),
        ("HEAD", "/routed/hello"),
        ("POST", "/routed/keep/{key}"),
        ("DELETE", "/routed/keep/{key}"),
        ("GET", "/routed/tree/{path}"),
        ("POST", "/added/one"),
        ("GET", "/added/two"),
        ("GET", "/added/files/{filename}"),
    } <= told
    assert not any("no slash" in path for _, path in told)


def test_a_handler_gets_query_headers_and_json(pack: Pack) -> None:
    assert pack.json("GET", "/routed/hello", "name=a%20b&name=c", X_Told="yes") == {"name": "a b", "header": "yes"}
    body = json.dumps({"a": [1, "ä"]}).encode()
    kept = pack.ask("POST", "/routed/keep/one%20two", "", body, Content_Type="application/json")
    assert (kept.status, kept.body) == (201, b"kept")
    assert pack.json("GET", "/routed/keep/one%20two") == {"a": [1, "ä"]}
    assert pack.ask("DELETE", "/routed/keep/one%20two").status == 204
    assert pack.ask("GET", "/routed/keep/one%20two").body == b"nothing is kept there"


def test_a_parameter_with_a_pattern_of_its_own(pack: Pack) -> None:
    assert pack.json("GET", "/routed/tree/a/b/c.txt") == {"path": "a/b/c.txt"}
    assert not pack.ask("GET", "/routed/tree/a").routed


def test_a_multipart_form_with_a_file(pack: Pack) -> None:
    body = (
        b'--x\r\nContent-Disposition: form-data; name="text"\r\n\r\ntold\r\n'
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.bin"\r\n'
        b"Content-Type: application/octet-stream\r\n\r\n" + bytes(70_000) + b"\r\n--x--\r\n"
    )
    told = pack.json("POST", "/routed/form", "", body, Content_Type="multipart/form-data; boundary=x")
    assert told == {"text": "told", "name": "a.bin", "size": 70_000}


def test_a_body_of_the_largest_size(pack: Pack) -> None:
    assert pack.json("POST", "/routed/size", "", bytes(MOST_REQUEST_BYTES)) == {"size": MOST_REQUEST_BYTES}


def test_routes_added_to_the_application_and_static_folders(pack: Pack) -> None:
    assert pack.json("GET", "/added/one") == pack.json("POST", "/added/one") == {"added": "/added/one"}
    assert pack.json("GET", "/added/two") == {"added": "/added/two"}
    assert pack.json("GET", "/added/files/told.json") == {"lies": "here"}
    part = pack.ask("GET", "/added/files/told.json", Range="bytes=2-5")
    assert (part.status, part.body) == (206, b"lies")
    assert not pack.ask("GET", "/added/files/../__init__.py").routed
    assert pack.ask("GET", "/added/files/%2e%2e%2f__init__.py").status in (403, 404)


def test_head_has_no_body(pack: Pack) -> None:
    answer = pack.ask("HEAD", "/routed/hello")
    assert (answer.status, answer.body) == (200, b"")


def test_answers_in_pieces_come_whole(pack: Pack) -> None:
    assert pack.ask("GET", "/routed/pieces").body == b"0 1 2 "


def test_handlers_run_on_the_servers_loop(pack: Pack) -> None:
    assert pack.json("GET", "/routed/same-loop") == {"same": True}


@pytest.mark.parametrize(("method", "path"), [("GET", "/routed/other"), ("PUT", "/routed/hello"), ("GET", "/")])
def test_what_no_pack_declares_is_nobodys(pack: Pack, method: str, path: str) -> None:
    assert not pack.ask(method, path).routed


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("raises", "ValueError: no good"),
        ("ends", "SystemExit: 3"),
        ("nothing", "TypeError: the handler gave a NoneType, which is no response"),
    ],
)
def test_what_a_handler_raises_is_its_own_answer(pack: Pack, path: str, message: str) -> None:
    answer = pack.ask("GET", f"/routed/{path}")
    assert (answer.status, answer.fault) == (500, ("node_pack_error", message))
    assert pack.json("GET", "/routed/same-loop") == {"same": True}


def test_answers_that_are_too_large_or_stream_are_refused(pack: Pack) -> None:
    assert len(pack.ask("GET", "/routed/large", f"bytes={MOST_ANSWER_BYTES}").body) == MOST_ANSWER_BYTES
    for path, query in (("large", f"bytes={MOST_ANSWER_BYTES + 1}"), ("endless", "kind=text/event-stream")):
        answer = pack.ask("GET", f"/routed/{path}", query)
        assert (answer.status, answer.fault and answer.fault[0]) == (501, "not_implemented")


def test_a_request_that_is_no_http_is_refused(pack: Pack) -> None:
    answer = pack.ask("GET", "/routed/hello", "", b"", X_Told="a\r\nX-Other: b")
    assert answer.fault is not None
    assert (answer.status, answer.fault[0]) == (400, "invalid_input")


def test_a_handler_that_hangs_is_given_up_while_others_go_on(pack: Pack) -> None:
    impatient = Pack(pack.server, seconds=0.5)
    hanging = impatient.begin("GET", "/routed/hangs")
    endless = impatient.begin("GET", "/routed/endless", "kind=text/plain")
    assert pack.json("GET", "/routed/hello")["name"] is None
    answer = hanging.get(timeout=LIMIT)
    assert (answer.status, answer.fault) == (504, ("timeout", "the node pack did not answer within 0.5 s"))
    assert endless.get(timeout=LIMIT).status == 501


def test_a_handler_that_blocks_the_loop_costs_the_loop_alone(pack: Pack) -> None:
    before = pack.server.loop
    assert Pack(pack.server, seconds=0.5).ask("GET", "/routed/blocks", "for=ever").status == 504
    assert pack.json("GET", "/routed/same-loop") == {"same": True}
    assert pack.server.loop is not before


def test_more_requests_than_can_go_on_at_once_are_sent_away(pack: Pack) -> None:
    full = Pack(pack.server, seconds=3)
    hanging = [full.begin("GET", "/routed/hangs") for _ in range(MOST_AT_ONCE)]
    refused = full.ask("GET", "/routed/hello")
    assert (refused.status, refused.fault and refused.fault[0]) == (503, "dependency_unavailable")
    assert [each.get(timeout=LIMIT).status for each in hanging] == [504] * MOST_AT_ONCE
    assert pack.ask("GET", "/routed/hello").status == 200


def test_a_task_that_wants_to_end_the_process_does_not_end_the_loop(pack: Pack) -> None:
    async def end() -> None:
        raise SystemExit(3)

    asyncio.run_coroutine_threadsafe(end(), pack.server.loop)
    assert pack.json("GET", "/routed/same-loop") == {"same": True}
