"""What NATS does to us: killed, emptied, not there yet."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from nats.aio.msg import Msg

from limner.bus.jetstream import JetStreamBus
from limner.bus.jetstream.pulling import Pulling
from limner.bus.messages import Claim, Claimed, Heartbeat, Message, Token
from limner.errors import Misconfigured, Unavailable
from tests.support.durable import until
from tests.support.nats import NatsServer

POOL = "default"


@pytest.fixture
async def bus(server: NatsServer) -> AsyncIterator[JetStreamBus]:
    connected = await JetStreamBus.connect(server.url, name="test")
    yield connected
    await connected.close()


async def reconnected(bus: JetStreamBus) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            await bus.pending(POOL)
        except Unavailable:
            assert time.monotonic() < deadline, "no reconnect"
            await asyncio.sleep(0.02)
        else:
            return


async def test_acknowledged_tokens_outlive_a_killed_server(server: NatsServer, bus: JetStreamBus) -> None:
    for n in range(3):
        await bus.publish_token(POOL, "any", Token(id=f"j{n}", epoch=0))
    held = await bus.pull(POOL, ("any",))
    assert held is not None
    server.kill()
    await server.start()
    await reconnected(bus)
    assert set(await bus.pending(POOL)) == {"j0", "j1", "j2"}
    with contextlib.suppress(Unavailable):  # the server may have forgotten that it had delivered it
        await held.ack()
    taken = set()
    while (delivery := await bus.pull(POOL, ("any",))) is not None:
        taken.add(delivery.token.id)
        await delivery.ack()
    assert taken >= {"j1", "j2"}
    assert await bus.pending(POOL) == {}


async def test_a_lost_store_is_laid_out_again(server: NatsServer, bus: JetStreamBus) -> None:
    await bus.publish_token(POOL, "any", Token(id="j", epoch=0))
    await bus.put_worker(Heartbeat(worker="w", pool=POOL, state="idle", version="1", catalogue=""))
    held = await bus.pull(POOL, ("any",))
    assert held is not None
    server.kill()
    server.lose_everything()
    await server.start()
    await reconnected(bus)
    assert await bus.pending(POOL) == {}
    assert await bus.pull(POOL, ("any",)) is None
    assert await bus.workers() == []
    await held.ack()
    await bus.put_worker(Heartbeat(worker="w", pool=POOL, state="idle", version="1", catalogue=""))
    await bus.publish_token(POOL, "any", Token(id="j", epoch=1))
    again = await bus.pull(POOL, ("any",))
    assert again is not None
    assert again.token.epoch == 1
    assert len(await bus.workers()) == 1


async def test_the_store_is_laid_out_again_even_without_a_reconnect(bus: JetStreamBus) -> None:
    """Somebody deleted the stream and the lane of a running server."""
    await bus.publish_token(POOL, "any", Token(id="j", epoch=0))
    await bus._requests.api(f"CONSUMER.DELETE.LIMNER_JOBS_{POOL}.any", {})
    assert await bus.pull(POOL, ("any",)) is None, "a lane without its consumer is read as empty"
    await bus.ensure_lanes(POOL, ["any"])
    delivery = await bus.pull(POOL, ("any",))
    assert delivery is not None
    await bus._requests.api(f"STREAM.DELETE.LIMNER_JOBS_{POOL}", {})
    with pytest.raises(Unavailable):
        await bus.publish_token(POOL, "any", Token(id="k", epoch=0))
    await bus.publish_token(POOL, "any", Token(id="k", epoch=0))
    assert await bus.pending(POOL) == {"k": "any"}


async def test_while_the_server_is_away_nothing_is_read_as_empty(server: NatsServer, bus: JetStreamBus) -> None:
    await bus.publish_token(POOL, "any", Token(id="j", epoch=0))
    server.kill()
    calls = [
        bus.pending(POOL),
        bus.pull(POOL, ("any",)),
        bus.publish_token(POOL, "any", Token(id="k", epoch=0)),
        bus.purge(POOL, "any", "j"),
        bus.workers(),
        bus.request("limner.test", Claim(id="j", epoch=0, worker="w", delivery="d"), Claimed, 0.5),
    ]
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(result) for result in results} <= {Unavailable}, results


async def test_subscriptions_and_wakes_hold_over_a_restart(server: NatsServer, bus: JetStreamBus) -> None:
    async def answer(body: bytes) -> Message:
        return Claimed(ok=True, reason="here")

    await bus.serve("limner.test.ask", "group", answer)
    assert await bus.wait_wake(POOL, 0.01) is None
    server.kill()
    waiting = asyncio.create_task(bus.wait_wake(POOL, 30))
    await server.start()
    assert await waiting == "", "a reconnect wakes, since wakes may have been lost before it"
    await reconnected(bus)
    answered = await bus.request("limner.test.ask", Claim(id="j", epoch=0, worker="w", delivery="d"), Claimed, 5)
    assert answered.reason == "here"


async def test_a_bus_may_be_opened_before_its_server(server: NatsServer) -> None:
    server.kill()
    bus = await JetStreamBus.connect(server.url, name="early", wait_seconds=0.2)
    assert not bus.connected

    async def answer(body: bytes) -> Message:
        return Claimed(ok=True)

    await bus.serve("limner.test.ask", "group", answer)
    with pytest.raises(Unavailable):
        await bus.publish("limner.test", b"")
    await server.start()
    await reconnected(bus)
    assert (await bus.request("limner.test.ask", Claim(id="j", epoch=0, worker="w", delivery="d"), Claimed, 5)).ok
    await bus.close()


async def test_a_connection_that_is_closed_for_good_is_followed_by_a_new_one(bus: JetStreamBus) -> None:
    """On some errors that the server tells, the client never tries again."""

    async def answer(body: bytes) -> Message:
        return Claimed(ok=True, reason="here")

    await bus.serve("limner.test.ask", "group", answer)
    assert await bus.pull(POOL, ("any",)) is None
    await bus._connection.client()._process_err("'maximum connections exceeded'")
    await until(lambda: not bus.connected)
    assert await bus.wait_wake(POOL, 20) == "", "wakes may have been lost before"
    await reconnected(bus)
    claim = Claim(id="j", epoch=0, worker="w", delivery="d")
    assert (await bus.request("limner.test.ask", claim, Claimed, 5)).reason == "here"
    await bus.publish_token(POOL, "any", Token(id="j", epoch=0))
    assert await bus.wait_wake(POOL, 5) == "any"
    assert await bus.pull(POOL, ("any",)) is not None


async def test_a_server_that_talks_nonsense_is_tried_again(server: NatsServer) -> None:
    server.kill()
    met = asyncio.Event()

    async def talk(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"INFO\r\n")
        writer.close()
        met.set()

    nonsense = await asyncio.start_server(talk, "127.0.0.1", server._port)
    bus = await JetStreamBus.connect(server.url, name="early", wait_seconds=0.2)
    await asyncio.wait_for(met.wait(), 10)
    nonsense.close()
    await nonsense.wait_closed()
    await server.start()
    await reconnected(bus)
    await bus.close()


async def test_a_subscription_that_could_not_begin_does_with_the_next_connection(
    server: NatsServer, bus: JetStreamBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_arguments: object, **_more: object) -> None:
        raise ConnectionResetError

    async def answer(body: bytes) -> Message:
        return Claimed(ok=True)

    with monkeypatch.context() as patch:
        patch.setattr(bus._connection._client, "subscribe", fail)
        await bus.serve("limner.test.ask", "group", answer)
    server.kill()
    await server.start()
    await reconnected(bus)
    assert (await bus.request("limner.test.ask", Claim(id="j", epoch=0, worker="w", delivery="d"), Claimed, 5)).ok


async def test_a_delivery_to_a_process_started_again_is_another_one(
    server: NatsServer, bus: JetStreamBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A killed server may have forgotten how often it had delivered a token, and then tells the same of it again."""
    await bus.publish_token(POOL, "any", Token(id="j", epoch=0))
    ask = Pulling.pull
    told: list[object] = []

    async def the_same(pulling: Pulling, lanes: Sequence[str]) -> object:
        told.append(told[0] if told else await ask(pulling, lanes))
        return told[0]

    monkeypatch.setattr(Pulling, "pull", the_same)
    first = await bus.pull(POOL, ("any",))
    assert first is not None
    again = await JetStreamBus.connect(server.url, name="test")
    for taker, same in ((again, False), (bus, True)):
        second = await taker.pull(POOL, ("any",))
        assert second is not None
        assert (second.id == first.id) is same
    await again.close()


async def test_a_delivery_outlives_the_connection_that_it_came_over(bus: JetStreamBus) -> None:
    await bus.publish_token(POOL, "any", Token(id="j", epoch=0))
    held = await bus.pull(POOL, ("any",))
    assert held is not None
    await bus._connection.client()._process_err("'maximum connections exceeded'")
    await until(lambda: not bus.connected)
    await reconnected(bus)
    await held.in_progress()
    await held.ack()
    assert await bus.pending(POOL) == {}


async def test_a_token_that_jetstream_does_not_remove_is_told_as_unavailable(
    bus: JetStreamBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bus.publish_token(POOL, "any", Token(id="j", epoch=0))
    ask = bus._requests.api

    async def refuse(subject: str, body: dict[str, Any]) -> dict[str, Any]:
        return await ask(subject.replace("STREAM.PURGE.", "STREAM.PURGE.NO_"), body)

    monkeypatch.setattr(bus._requests, "api", refuse)
    with pytest.raises(Unavailable, match="older token"):
        await bus.publish_token(POOL, "any", Token(id="j", epoch=1))


@pytest.mark.parametrize("url", ["nats://secret@h:notaport", "nats://u:secret@h:70000000"])
async def test_a_url_that_cannot_be_used_is_told_plainly(url: str) -> None:
    with pytest.raises(Misconfigured) as caught:
        await JetStreamBus.connect(url, name="test")
    assert "secret" not in str(caught.value)


async def test_without_the_token_there_is_no_connection(server: NatsServer) -> None:
    bus = await JetStreamBus.connect(server.url.replace("test-token", "wrong"), name="stranger", wait_seconds=0.3)
    assert not bus.connected
    await bus.close()


async def test_a_token_that_its_lane_does_not_know_of_yet_is_found(
    bus: JetStreamBus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """JetStream tells a lane of a token a moment after it has told the publisher that the token is stored."""
    await bus.publish_token(POOL, "any", Token(id="j", epoch=0))
    ask, asked = Pulling.pull_lane, 0

    async def too_early(pulling: Pulling, lane: str) -> Msg | None:
        nonlocal asked
        asked += 1
        return None if asked == 1 else await ask(pulling, lane)

    monkeypatch.setattr(Pulling, "pull_lane", too_early)
    assert await bus.pull(POOL, ("any",)) is not None
    assert await bus.pull(POOL, ("any",)) is None
    assert asked == 3, "a token that a worker holds is no reason to ask again"


async def test_a_lane_that_expired_is_read_as_empty_until_it_is_made_again(bus: JetStreamBus) -> None:
    """JetStream drops a consumer that nobody used for an hour; its tokens stay, and the other lanes go on."""
    for n, lane in enumerate(("aaaa", "bbbb", "aaaa")):
        await bus.publish_token(POOL, lane, Token(id=f"j{n}", epoch=0))
    await bus._requests.api(f"CONSUMER.DELETE.LIMNER_JOBS_{POOL}.aaaa", {})
    other = await bus.pull(POOL, ("aaaa",))
    assert other is not None
    assert (other.lane, other.token.id) == ("bbbb", "j1")
    assert await bus.pull(POOL, ("aaaa",)) is None
    assert set(await bus.pending(POOL)) == {"j0", "j1", "j2"}
    await bus.ensure_lanes(POOL, ["aaaa", "bbbb"])
    taken = [await bus.pull(POOL, ()) for _ in range(2)]
    assert [one.token.id for one in taken if one is not None] == ["j0", "j2"]


async def test_a_lost_store_is_laid_out_again_with_all_its_lanes(server: NatsServer, bus: JetStreamBus) -> None:
    lanes = [f"{n:016x}" for n in range(5)]
    for lane in lanes:
        await bus.publish_token(POOL, lane, Token(id=f"in-{lane}", epoch=0))
    server.kill()
    server.lose_everything()
    await server.start()
    await reconnected(bus)
    assert await bus.pull(POOL, lanes) is None
    for lane in lanes:
        await bus.publish_token(POOL, lane, Token(id=f"in-{lane}", epoch=1))
    taken = [await bus.pull(POOL, ()) for _ in lanes]
    assert [(one.lane, one.token.epoch) for one in taken if one is not None] == [(lane, 1) for lane in lanes]
