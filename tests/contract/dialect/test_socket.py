"""The WebSocket over a real connection, against recorded sockets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx
import pytest
import websockets

from limner.bus.messages import Control
from limner.comfy.dialect.ordering import PATIENCE_SECONDS, Arrival
from tests.contract.dialect.stack import Client, Stack, client, listening, picture_workflow
from tests.unit.comfy.recordings import arrivals, runs, sockets

FLAGS = {"type": "feature_flags", "data": {"supports_preview_metadata": True}}


@pytest.fixture
async def address(gateway: Stack) -> AsyncIterator[str]:
    async with listening(gateway.app) as bound:
        yield bound


def recorded_run(
    name: str, letter: str = "A", client_id: str = "client-a", index: int = 0
) -> tuple[list[Arrival], list[dict[str, Any]]]:
    (frames,) = [events for each, events in sockets(name) if each == letter]
    told = [run for run in runs(frames) if any(f.get("type") == "execution_start" for f in run)][index]
    return list(arrivals(told, client_id)), list(told)


def status(remaining: int, sid: str | None = None) -> dict[str, Any]:
    data: dict[str, Any] = {"status": {"exec_info": {"queue_remaining": remaining}}}
    return {"type": "status", "data": data if sid is None else {**data, "sid": sid}}


def typed(frames: list[dict[str, Any]]) -> list[object]:
    return [frame.get("type", "binary") for frame in frames]


async def test_a_run_is_told_to_its_client_and_its_length_to_all(gateway: Stack, address: str) -> None:
    told, expected = recorded_run("01")
    prompt_id = told[0].live.prompt_id
    async with client(address, "clientId=client-a") as ours, client(address, "clientId=client-b") as theirs:
        assert await ours.next() == status(0, "client-a")
        assert await theirs.next() == status(0, "client-b")
        await gateway.post(picture_workflow(), client_id="client-a", prompt_id=prompt_id)
        await gateway.run(told)
        assert await ours.take(2) == [status(1), status(1)]
        seen = await ours.until_end()
        assert [f for f in seen if f["type"] != "execution_success"] == [
            f for f in expected if f["type"] != "execution_success"
        ]
        assert typed(seen) == typed(expected)
        history = (await gateway.http.get(f"/history/{prompt_id}")).json()
        assert history[prompt_id]["status"]["completed"]
        assert await theirs.take(3) == [status(1), status(1), status(0)]


async def test_previews_come_in_the_form_that_was_asked_for(gateway: Stack, address: str) -> None:
    for letter, first, form in (("D", FLAGS, 4), ("A", None, 1)):
        client_id = f"client-{letter.lower()}"
        told, expected = recorded_run("42", letter, client_id)
        async with client(address, f"clientId={client_id}", first=first) as ours:
            assert await ours.next() == status(0, client_id)
            if first:
                features = {"supports_preview_metadata": True, "max_upload_size": 104857600}
                assert await ours.next() == {"type": "feature_flags", "data": features}
            await gateway.post(picture_workflow(), client_id=client_id, prompt_id=told[0].live.prompt_id)
            await gateway.run(told)
            await ours.take(2)
            seen = await ours.until_end()
            assert typed(seen) == [frame.get("type", "binary") for frame in expected]
            pictures = [frame["binary"] for frame in seen if "binary" in frame]
            assert [int.from_bytes(each[:4], "big") for each in pictures] == [form, form]


@pytest.mark.parametrize("first", [{"type": "hello"}, {"type": "feature_flags", "data": 5}, [1]])
async def test_only_flags_in_the_first_message_are_answered(address: str, first: object) -> None:
    async with client(address, "clientId=c") as ours:
        await ours.next()
        await ours.connection.send("{not json")
        await ours.connection.send(json.dumps(first))
        await ours.connection.send(json.dumps(FLAGS))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(ours.connection.recv(), 0.2)


async def test_flags_after_something_that_is_no_json_still_count(address: str) -> None:
    async with client(address, "clientId=c") as ours:
        await ours.next()
        await ours.connection.send("{not json")
        await ours.connection.send(json.dumps(FLAGS))
        assert (await ours.next())["type"] == "feature_flags"


@pytest.mark.parametrize("query", ["", "clientId="])
async def test_a_client_without_an_id_is_given_one(address: str, query: str) -> None:
    async with client(address, query) as ours:
        sid = (await ours.next())["data"]["sid"]
        assert len(sid) == 32
        assert int(sid, 16)


async def test_after_its_first_json_nothing_of_a_client_is_read(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_it(text: str | None) -> dict[str, Any]:
        read.append(text)
        return {}

    read: list[str | None] = []
    monkeypatch.setattr("limner.comfy.dialect.socket._json", read_it)
    async with client(address, "clientId=c") as ours:
        await ours.next()
        for _ in range(3):
            await ours.connection.send("[" * 1000)
        await (await ours.connection.ping())  # all before it has been taken in
    assert len(read) == 1


async def test_the_first_client_in_the_middle_of_a_run_learns_what_runs_and_gets_previews(
    gateway: Stack, address: str
) -> None:
    told, _ = recorded_run("01")
    heard: list[Control] = []

    async def hear(_subject: str, body: bytes) -> None:
        heard.append(Control.decode(body))

    await gateway.services.bus.subscribe("limner.ctl.w", hear)
    await gateway.post(picture_workflow(), client_id="client-a", prompt_id=told[0].live.prompt_id)
    job, claimed = await gateway.claim()
    assert not claimed.watched
    for each in told[:3]:
        await gateway.tell(job, claimed, each)
    async with client(address, "clientId=client-a") as ours, client(address, "clientId=other") as other:
        assert await ours.take(2) == [status(1, "client-a"), {"type": "executing", "data": {"node": "1"}}]
        assert await other.next() == status(1, "other")
    assert [(each.kind, each.id, each.token) for each in heard] == [("watch", job, claimed.token)]


async def test_a_reconnecting_client_learns_which_node_runs(gateway: Stack, address: str) -> None:
    told, _ = recorded_run("01")
    prompt_id = told[0].live.prompt_id
    started = told[:3]
    assert started[-1].live.kind == "NodeStarted"
    async with client(address, "clientId=client-a") as ours:
        await gateway.post(picture_workflow(), client_id="client-a", prompt_id=prompt_id)
        job, claimed = await gateway.claim()
        for each in started:
            await gateway.tell(job, claimed, each)
        while (await ours.next())["type"] != "executing":
            pass
    async with client(address, "clientId=client-a") as again, client(address, "clientId=other") as other:
        assert await again.take(2) == [status(1, "client-a"), {"type": "executing", "data": {"node": "1"}}]
        assert await other.next() == status(1, "other")
        for each in told[3:-1]:
            await gateway.tell(job, claimed, each)
        await gateway.done(
            job, claimed, outcome="succeeded", messages=[["execution_success", {"prompt_id": prompt_id}]]
        )
        last = (await again.until_end())[-3:]
        assert typed(last) == ["execution_success", "status", "executing"]


async def test_the_same_id_takes_over_and_the_old_sockets_end_harms_nothing(gateway: Stack, address: str) -> None:
    async with client(address, "clientId=dup") as oldest, client(address, "clientId=dup") as older:
        await oldest.next()
        await older.next()
        async with client(address, "clientId=dup") as newest:
            await newest.next()
            await older.connection.close()
            await oldest.connection.close()
            await until_open(gateway, "dup", 1)
            await gateway.post(picture_workflow(), client_id="dup")
            assert await newest.next() == status(1)
            assert gateway.services.presence.watching("default", "dup")
    await until_open(gateway, "dup", 0)


async def until_open(gateway: Stack, client_id: str, count: int) -> None:
    async with asyncio.timeout(5):
        while gateway.services.presence._open["default", client_id] != count:
            await asyncio.sleep(0.01)


async def test_an_event_lost_on_the_way_holds_up_the_end_only_for_a_moment(gateway: Stack, address: str) -> None:
    told, _ = recorded_run("01")
    async with client(address, "clientId=client-a") as ours:
        await ours.next()
        await gateway.post(picture_workflow(), client_id="client-a", prompt_id=told[0].live.prompt_id)
        began = asyncio.get_running_loop().time()
        await gateway.run(told, mute=[len(told) - 1])
        seen = await ours.until_end()
        assert typed(seen)[-3:] == ["execution_success", "status", "executing"]
        assert asyncio.get_running_loop().time() - began < PATIENCE_SECONDS * 8


async def test_a_failure_is_told_with_the_runs_own_words(gateway: Stack, address: str) -> None:
    _, expected = recorded_run("20")
    error = next(frame for frame in expected if frame["type"] == "execution_error")["data"]
    async with client(address, "clientId=client-a") as ours:
        await ours.next()
        await gateway.post(picture_workflow(), client_id="client-a", prompt_id=error["prompt_id"])
        job, claimed = await gateway.claim()
        messages = [["execution_error", error]]
        await gateway.done(
            job, claimed, outcome="failed", messages=messages, error={**error, "code": "node_error", "retryable": False}
        )
        seen = (await ours.until_end())[-3:]
        assert seen == [
            {"type": "execution_error", "data": error},
            status(0),
            {"type": "executing", "data": {"node": None, "prompt_id": error["prompt_id"]}},
        ]


@asynccontextmanager
async def dead_client(address: str) -> AsyncIterator[None]:
    """A client that opens a socket as `dead` and never reads from it."""
    host, port = address.split(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=1024)
    lines = ["GET /ws?clientId=dead HTTP/1.1", f"Host: {address}", "Upgrade: websocket", "Connection: Upgrade"]
    lines += ["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13", "", ""]
    writer.write("\r\n".join(lines).encode())
    assert b"101" in await reader.readline()
    yield
    writer.close()


async def test_a_socket_that_does_not_read_keeps_nobody_waiting(gateway: Stack, address: str) -> None:
    """Its frames pile up in buffers, then in its own outbox; the other client sees every end at once."""
    told, _ = recorded_run("61", "D", "client-d")
    big = [Arrival(live=each.live, picture=each.picture * 20_000) for each in told]
    async with dead_client(address), client(address, "clientId=alive") as ours:
        await ours.next()
        for n in range(20):
            await gateway.post(picture_workflow(n), client_id="dead")
            await gateway.run(big)
            await gateway.post(picture_workflow(n), client_id="alive")
            await gateway.run(told)
            assert typed(await ours.until_end())[-1] == "executing"
        assert gateway.services.presence.watching("default", "dead")


async def test_a_hopeless_socket_is_closed(gateway: Stack, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("limner.comfy.dialect.outbox.BYTES", 1024 * 1024)
    told, _ = recorded_run("01")
    shown = next(each for each in told if each.live.kind == "NodeOutput")
    big = Arrival(live=replace(shown.live, data={**shown.live.data, "ui": {"text": ["x" * 500_000]}}))
    async with dead_client(address):
        await until_open(gateway, "dead", 1)
        await gateway.post(picture_workflow(), client_id="dead")
        job, claimed = await gateway.claim()
        for n in range(100):
            await gateway.tell(job, claimed, Arrival(live=replace(big.live, seq=n + 1)))
        await until_open(gateway, "dead", 0)


@pytest.mark.parametrize("origin", ["http://evil.example", "null"])
async def test_a_page_of_another_site_gets_no_socket(address: str, origin: str) -> None:
    with pytest.raises(websockets.InvalidStatus) as caught:
        await websockets.connect(f"ws://{address}/ws", origin=websockets.Origin(origin))
    assert caught.value.response.status_code == 403


async def test_sockets_exist_under_both_prefixes_and_plain_http_gets_no_socket(address: str) -> None:
    async with websockets.connect(f"ws://{address}/api/ws?clientId=c") as connection:
        assert (await Client(connection).next()) == status(0, "c")
    async with httpx.AsyncClient(base_url=f"http://{address}") as http:
        assert (await http.get("/ws")).status_code == 404


async def test_a_gateway_without_its_database_refuses_sockets_and_says_why(gateway: Stack, address: str) -> None:
    await gateway.db.close()
    with pytest.raises(websockets.InvalidStatus) as caught:
        await websockets.connect(f"ws://{address}/ws")
    assert caught.value.response.status_code == 503
    assert b"database" in (caught.value.response.body or b"")
