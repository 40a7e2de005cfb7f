"""The connection for events, at a server that closes it as it likes."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from urllib.parse import parse_qs, urlsplit

import pytest
from websockets.asyncio.server import Server, ServerConnection, serve

from limner.worker.engines.comfyui.address import Address
from limner.worker.engines.comfyui.client import Unreachable
from limner.worker.engines.comfyui.frames import Gap, Said
from limner.worker.engines.comfyui.line import Line
from limner.worker.engines.comfyui.socket import BACKLOG, Inbox

SOON_SECONDS = 5.0


@dataclass
class Sockets:
    """Keeps what connects: `ids` in their order, `hellos` the first messages."""

    open: list[ServerConnection] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    hellos: list[str | bytes] = field(default_factory=list)
    news: asyncio.Event = field(default_factory=asyncio.Event)
    server: Server | None = None
    slams: bool = False  # each connection is closed as soon as it is there

    async def take(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        self.ids += parse_qs(urlsplit(connection.request.path).query)["clientId"]
        self.hellos.append(await connection.recv())
        self.open.append(connection)
        self.news.set()
        if not self.slams:
            await connection.wait_closed()

    async def until(self, count: int) -> None:
        async with asyncio.timeout(SOON_SECONDS):
            while len(self.open) < count:
                self.news.clear()
                await self.news.wait()

    @property
    def address(self) -> Address:
        assert self.server is not None
        port = next(iter(self.server.sockets)).getsockname()[1]
        return Address.parse(f"http://127.0.0.1:{port}")


@asynccontextmanager
async def sockets() -> AsyncIterator[tuple[Sockets, Line]]:
    kept = Sockets()
    async with serve(kept.take, "127.0.0.1", 0) as kept.server:
        line = Line(kept.address)
        try:
            yield kept, line
        finally:
            await line.close()


def event(number: int) -> str:
    return f'{{"type": "e", "data": {{"number": {number}}}}}'


async def heard(line: Line) -> int | str:
    message = await line.next(SOON_SECONDS)
    return message.data["number"] if isinstance(message, Said) else type(message).__name__


async def test_a_socket_asks_for_previews_with_metadata_and_is_kept_between_runs() -> None:
    async with sockets() as (kept, line):
        await line.open()
        first = await line.begin()
        await line.end()
        assert await line.begin() == first == kept.ids[0]
        await kept.until(1)
        assert '"supports_preview_metadata": true' in str(kept.hellos[0])
        assert len(kept.ids) == 1
        assert not line.shaky


async def test_a_socket_that_breaks_during_a_run_comes_back_under_its_id_and_then_gets_another() -> None:
    async with sockets() as (kept, line):
        client_id = await line.begin()
        await kept.until(1)
        await kept.open[0].send(event(1))
        assert await heard(line) == 1
        kept.open[0].transport.abort()
        assert await heard(line) == "Gap"
        await kept.until(2)
        assert kept.ids == [client_id, client_id]
        assert line.shaky
        await kept.open[1].send(event(2))
        assert await heard(line) == 2
        await line.end()
        assert await line.begin() != client_id
        assert not line.shaky


async def test_not_even_a_debugging_log_holds_the_password(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    async with sockets() as (kept, _):
        line = Line(replace(kept.address, auth=("me", "secret")))
        await line.open()
        await kept.until(1)
        await line.close()
    said = " ".join(each.getMessage() for each in caplog.records if each.name != "websockets.server")  # the test's own
    assert b64encode(b"me:secret").decode() not in said


async def test_a_server_that_closes_every_socket_at_once_is_not_stormed() -> None:
    async with sockets() as (kept, line):
        kept.slams = True
        await line.begin()
        await asyncio.sleep(1.2)
        assert 2 <= len(kept.ids) <= 5
        await line.end()


async def test_whoever_looks_while_a_run_begins_opens_no_second_socket() -> None:
    async with sockets() as (kept, line):
        client_id, _, _ = await asyncio.gather(line.begin(), line.open(), line.open())
        await kept.until(1)
        line.shaky = True  # as after a break
        await line.open()
        assert kept.ids == [client_id]
        assert line.up
    async with sockets() as (kept, line):
        _, client_id, _ = await asyncio.gather(line.open(), line.begin(), line.open())
        await kept.until(1)
        assert kept.ids == [client_id]


async def until_broken(line: Line) -> None:
    async with asyncio.timeout(SOON_SECONDS):
        while line.up:
            await asyncio.sleep(0)


async def test_a_socket_that_broke_while_idle_is_replaced_when_a_run_begins() -> None:
    async with sockets() as (kept, line):
        await line.open()
        await kept.until(1)
        await kept.open[0].close()
        await until_broken(line)
        client_id = await line.begin()
        assert line.up
        assert not line.shaky
        assert client_id == kept.ids[1] != kept.ids[0]


async def test_a_run_that_is_taken_up_again_is_heard_under_its_old_id() -> None:
    async with sockets() as (kept, line):
        await line.open()
        assert await line.begin("theirs") == "theirs"
        await kept.until(2)
        assert kept.ids[1] == "theirs"
        assert line.shaky  # what came before was not heard


async def test_rejoining_says_goodbye_before_it_comes_back() -> None:
    async with sockets() as (kept, line):
        await line.begin()
        await kept.until(1)
        await line.rejoin()
        await kept.until(2)
        assert kept.open[0].close_code == 1000
        assert kept.ids[0] == kept.ids[1]


async def test_a_run_begins_also_where_no_socket_opens_and_gets_one_as_soon_as_it_can() -> None:
    kept = Sockets()
    async with serve(kept.take, "127.0.0.1", 0) as kept.server:
        address = kept.address
    line = Line(address)
    with pytest.raises(Unreachable) as unreachable:
        await line.open()
    assert unreachable.value.refused
    client_id = await line.begin()
    assert line.shaky
    async with serve(kept.take, "127.0.0.1", address.port) as kept.server:
        await kept.until(1)
        assert kept.ids == [client_id]
        await line.close()


async def test_a_server_that_is_no_websocket_server_is_unreachable() -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
        writer.close()

    server = await asyncio.start_server(refuse, "127.0.0.1", 0)
    line = Line(Address.parse(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"))
    with pytest.raises(Unreachable):
        await line.open()
    await line.close()
    server.close()
    await server.wait_closed()


async def test_a_reader_that_lags_behind_misses_only_what_is_said_again() -> None:
    inbox = Inbox()
    for number in range(BACKLOG + 100):
        inbox.put(Said(name="progress", data={"number": number}))
    inbox.put(Said(name="executed", data={}))
    inbox.put(Gap())
    names = []
    while (message := await inbox.next(0)) is not None:
        names.append(message.name if isinstance(message, Said) else "gap")
    assert names == ["progress"] * BACKLOG + ["executed", "gap"]


async def test_a_poke_ends_a_wait() -> None:
    inbox = Inbox()
    waiting = asyncio.create_task(inbox.next(SOON_SECONDS))
    await asyncio.sleep(0)
    inbox.poke()
    async with asyncio.timeout(1.0):
        assert await waiting is None
