"""The HTTP side, against a server that answers byte by byte what a test wants."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from limner.errors import NotFound
from limner.worker.engines.comfyui.address import Address
from limner.worker.engines.comfyui.client import ComfyClient, Refused, Unreachable


@dataclass
class Raw:
    """Answers each request with the next of `answers`, byte for byte, and closes; `asked` are the requests."""

    answers: list[bytes]
    asked: list[bytes] = field(default_factory=list)
    port: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        for line in head.split(b"\r\n"):
            if line.lower().startswith(b"content-length:"):
                head += await reader.readexactly(int(line.split(b":")[1]))
        self.asked.append(head)
        writer.write(self.answers.pop(0))
        await writer.drain()
        writer.close()


@asynccontextmanager
async def answering(*answers: bytes, user: str = "") -> AsyncIterator[tuple[Raw, ComfyClient]]:
    raw = Raw(list(answers))
    server = await asyncio.start_server(raw.serve, "127.0.0.1", 0)
    raw.port = server.sockets[0].getsockname()[1]
    client = ComfyClient(Address.parse(f"http://{user}127.0.0.1:{raw.port}"))
    try:
        yield raw, client
    finally:
        await client.close()
        server.close()
        await server.wait_closed()


def answer(body: bytes, status: str = "200 OK", *headers: str, length: int | None = None) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body) if length is None else length}", *headers]
    return ("\r\n".join([*lines, "Connection: close"]) + "\r\n\r\n").encode() + body


@pytest.mark.parametrize(
    "nonsense",
    [
        answer(b"<html>a login page</html>"),
        answer(b"{"),
        answer(b"[1, 2]"),
        answer(b"[" * 100_000),
        answer(b""),
        answer(b"\xff\xfe"),
        answer(b"{}", length=50),
        answer(b"<h1>502</h1>", "502 Bad Gateway"),
        answer(b"", "504 Gateway Timeout"),
        b"",
        b"\x16\x03\x01 this is TLS\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -7\r\n\r\n",
    ],
)
async def test_nonsense_is_no_answer(nonsense: bytes) -> None:
    async with answering(nonsense) as (_, client):
        with pytest.raises(Unreachable):
            await client.system_stats()


async def test_an_error_answer_is_told_with_its_body() -> None:
    async with answering(answer(b'{"error": {"type": "x"}}', "400 Bad Request")) as (_, client):
        with pytest.raises(Refused) as refused:
            await client.submit({})
        assert refused.value.answered == 400
        assert refused.value.body == {"error": {"type": "x"}}


async def test_an_error_page_is_told_as_its_beginning() -> None:
    async with answering(answer(b"<html>" + b"x" * 100_000, "500 Internal Server Error")) as (_, client):
        with pytest.raises(Refused) as refused:
            await client.queue()
        assert len(refused.value.message) < 1000


async def test_a_redirect_is_no_answer() -> None:
    async with answering(answer(b"", "302 Found", "Location: http://elsewhere/login")) as (raw, client):
        with pytest.raises(Refused):
            await client.system_stats()
        assert len(raw.asked) == 1


async def test_a_port_where_nobody_listens_is_told_as_such() -> None:
    async with answering() as (raw, client):
        port = raw.port
    for host in ("127.0.0.1", "localhost"):
        client = ComfyClient(Address.parse(f"http://{host}:{port}"))
        with pytest.raises(Unreachable) as unreachable:
            await client.system_stats()
        assert unreachable.value.refused
        await client.close()


async def test_a_closed_client_reaches_nobody() -> None:
    async with answering() as (_, client):
        await client.close()
        with pytest.raises(Unreachable):
            await client.queue()


async def test_user_and_password_are_sent_and_not_shown() -> None:
    async with answering(answer(b"no", "401 Unauthorized"), user="me:secret@") as (raw, client):
        with pytest.raises(Refused) as refused:
            await client.system_stats()
        assert b"Basic " + base64.b64encode(b"me:secret") in raw.asked[0]
        assert "secret" not in refused.value.message
        assert "user:password@host" in refused.value.message


async def test_a_queue_is_read_as_far_as_it_makes_sense() -> None:
    mark = {"job": "j", "token": "t", "worker": "w"}
    running: list[object] = [[1, "a", {}, {"client_id": "c", "limner": mark}, []]]
    waiting: list[object] = [None, [], [2, "b"], [3, "c", {}, None, []], {"x": 1}]
    body = json.dumps({"queue_running": running, "queue_pending": waiting})
    async with answering(answer(body.encode()), answer(b"[]")) as (_, client):
        queue = await client.queue()
        [item] = queue.running
        assert (item.prompt_id, item.client_id, item.job, item.token, item.worker) == ("a", "c", "j", "t", "w")
        assert [item.prompt_id for item in queue.waiting] == ["b", "c"]
        assert queue.runs("a")
        assert not queue.runs("b")
        assert queue.holds("b")
        assert not list(await client.queue())


async def test_kinds_of_models_that_cannot_be_listed_are_left_out() -> None:
    answers = [answer(b'["loras", "vae", 3]'), answer(b"", "404 Not Found"), answer(b'["a.safetensors", null]')]
    async with answering(*answers) as (_, client):
        assert await client.models() == {"vae": ["a.safetensors"]}
    async with answering(answer(b"", "404 Not Found")) as (_, client):
        assert await client.models() == {}


async def test_a_download_that_breaks_off_goes_on_where_it_was_cut(tmp_path: Path) -> None:
    version = "Last-Modified: Mon, 01 Jan 2024 00:00:00 GMT"
    cut = answer(b"01234", "200 OK", version, length=10)
    rest = answer(b"56789", "206 Partial Content", version, "Content-Range: bytes 5-9/10")
    async with answering(cut, rest) as (raw, client):
        assert await client.download("f.bin", "", "output", tmp_path / "f") == 10
        assert b"Range: bytes=5-" in raw.asked[1]
        assert b"If-Range: Mon, 01 Jan 2024" in raw.asked[1]
    assert (tmp_path / "f").read_bytes() == b"0123456789"


async def test_a_file_that_changed_meanwhile_is_fetched_anew(tmp_path: Path) -> None:
    cut = answer(b"old", "200 OK", "Last-Modified: Mon, 01 Jan 2024 00:00:00 GMT", length=10)
    async with answering(cut, answer(b"new")) as (_, client):
        assert await client.download("f.bin", "", "output", tmp_path / "f") == 3
    assert (tmp_path / "f").read_bytes() == b"new"


async def test_a_file_that_has_no_rest_is_fetched_anew(tmp_path: Path) -> None:
    """All of it came before the cut, or what lies there now is shorter."""
    cut = answer(b"all", "200 OK", "Last-Modified: Mon, 01 Jan 2024 00:00:00 GMT", length=10)
    async with answering(cut, answer(b"", "416 Range Not Satisfiable"), answer(b"all")) as (raw, client):
        assert await client.download("f.bin", "", "output", tmp_path / "f") == 3
        assert b"Range:" not in raw.asked[2]
    assert (tmp_path / "f").read_bytes() == b"all"


async def test_a_download_that_never_is_whole_fails(tmp_path: Path) -> None:
    async with answering(*[answer(b"01", length=10)] * 3) as (_, client):
        with pytest.raises(Unreachable):
            await client.download("f.bin", "", "output", tmp_path / "f")


async def test_a_download_of_nothing_is_an_empty_file(tmp_path: Path) -> None:
    async with answering(answer(b"")) as (_, client):
        assert await client.download("f.bin", "", "output", tmp_path / "f") == 0
    assert (tmp_path / "f").read_bytes() == b""


async def test_a_file_that_is_not_there_is_not_asked_for_again(tmp_path: Path) -> None:
    async with answering(answer(b"", "404 Not Found")) as (raw, client):
        with pytest.raises(NotFound):
            await client.download("f.bin", "", "output", tmp_path / "f")
        assert len(raw.asked) == 1


async def test_an_upload_that_breaks_off_is_repeated_whole(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"content")
    async with answering(b"", answer(b'{"name": "f", "subfolder": "s", "type": "input"}')) as (raw, client):
        told = await client.upload(tmp_path / "f", name="f", subfolder="s")
        assert told == {"name": "f", "subfolder": "s", "type": "input"}
        assert all(b"content" in each for each in raw.asked)


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        (b"", "401 Unauthorized", r"401 \(it wants a user and a password, .*\)$"),
        (b"<!DOCTYPE html><html><body>long</body></html>", "404 Not Found", r"404: a web page; is that a ComfyUI\?$"),
        (b"<html>hello</html>", "200 OK", r"no JSON: is that a ComfyUI\?$"),
    ],
)
async def test_what_is_no_comfyui_is_told_in_a_few_words(body: bytes, status: str, told: str) -> None:
    async with answering(answer(body, status)) as (_, client):
        with pytest.raises((Refused, Unreachable), match=told):
            await client.system_stats()
