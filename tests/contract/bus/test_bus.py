"""One suite over every bus, the real one with a real nats-server."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path

import pytest

from limner.bus import subjects
from limner.bus.jetstream import JetStreamBus
from limner.bus.memory import MemoryBus
from limner.bus.messages import Claim, Claimed, Heartbeat, Message, Route, Routed, Token
from limner.bus.port import Bus, Delivery, NobodyAnswers
from limner.errors import PayloadTooLarge, Unavailable
from tests.support.nats import NatsServer

POOL = "default"


@pytest.fixture(params=["memory", "jetstream"])
async def bus(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bus]:
    if request.param == "memory":
        yield MemoryBus()
        return
    server = NatsServer(tmp_path / "nats")
    await server.start()
    connected = await JetStreamBus.connect(server.url, name="test")
    yield connected
    await connected.close()
    server.kill()


@pytest.fixture
async def elsewhere(bus: Bus) -> AsyncIterator[Bus]:
    """The same bus as another process has it."""
    if not isinstance(bus, JetStreamBus):
        yield bus
        return
    connected = await JetStreamBus.connect(bus._connection._url, name="elsewhere")
    yield connected
    await connected.close()


async def eventually(ask: Callable[[], Awaitable[object]], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not await ask():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.01)


async def pull(bus: Bus, *lanes: str) -> Delivery:
    delivery = await bus.pull(POOL, lanes or ("any",))
    assert delivery is not None
    return delivery


async def pull_eventually(bus: Bus, lanes: Sequence[str] = ("any",)) -> Delivery:
    found: list[Delivery] = []

    async def came() -> bool:
        delivery = await bus.pull(POOL, lanes)
        found.extend([delivery] if delivery else [])
        return bool(found)

    await eventually(came)
    return found[0]


async def test_tokens_come_once_each_in_their_order(bus: Bus) -> None:
    for n in range(5):
        await bus.publish_token(POOL, "any", Token(id=f"j{n}", epoch=n))
    for n in range(5):
        delivery = await pull(bus)
        assert delivery.token == Token(id=f"j{n}", epoch=n)
        await delivery.ack()
    assert await bus.pull(POOL, ("any",)) is None
    assert await bus.pending(POOL) == {}


async def test_nothing_waits_in_a_pool_that_nobody_used(bus: Bus) -> None:
    assert await bus.pull(POOL, ("any",)) is None
    assert await bus.pull("another", ()) is None
    assert await bus.pending(POOL) == {}
    await bus.purge("another", "any", "j")


async def test_a_token_published_twice_is_one(bus: Bus) -> None:
    for _ in range(3):
        await bus.publish_token(POOL, "any", Token(id="j", epoch=0))
    delivery = await pull(bus)
    assert await bus.pull(POOL, ("any",)) is None
    await delivery.ack()
    assert await bus.pull(POOL, ("any",)) is None


async def test_a_newer_epoch_replaces_an_older_one_and_never_the_other_way(bus: Bus) -> None:
    await bus.publish_token(POOL, "any", Token(id="j", epoch=1))
    await bus.publish_token(POOL, "any", Token(id="j", epoch=3))
    await bus.publish_token(POOL, "any", Token(id="j", epoch=2))
    delivery = await pull(bus)
    assert delivery.token.epoch == 3
    await delivery.ack()
    assert await bus.pull(POOL, ("any",)) is None


async def test_a_newer_token_replaces_one_that_a_worker_holds(bus: Bus) -> None:
    """A returned job is released again before its worker has acknowledged."""
    await bus.publish_token(POOL, "any", Token(id="j", epoch=0))
    held = await pull(bus)
    await bus.publish_token(POOL, "any", Token(id="j", epoch=1))
    await held.ack()
    assert (await pull(bus)).token.epoch == 1


async def test_a_purged_token_is_gone(bus: Bus) -> None:
    await bus.publish_token(POOL, "any", Token(id="j", epoch=0))
    await bus.publish_token(POOL, "any", Token(id="k", epoch=0))
    await bus.purge(POOL, "any", "j")
    await bus.purge(POOL, "any", "never-there")
    assert await bus.pending(POOL) == {"k": "any"}
    assert (await pull(bus)).token.id == "k"


async def test_pending_tokens_include_those_that_a_worker_holds(bus: Bus) -> None:
    await bus.publish_token(POOL, "a", Token(id="j", epoch=0))
    await bus.publish_token(POOL, "b", Token(id="k", epoch=0))
    delivery = await pull(bus, "a")
    assert await bus.pending(POOL) == {"j": "a", "k": "b"}
    await delivery.ack()
    assert await bus.pending(POOL) == {"k": "b"}


async def test_a_worker_takes_its_own_lanes_first_and_then_any(bus: Bus) -> None:
    for n, lane in enumerate(["x", "mine", "x", "mine"]):
        await bus.publish_token(POOL, lane, Token(id=f"j{n}", epoch=0))
    assert [(await pull(bus, "none", "mine")).token.id for _ in range(4)] == ["j1", "j3", "j0", "j2"]
    assert await bus.pull(POOL, ("mine",)) is None


async def test_without_a_lane_of_its_own_a_worker_takes_the_token_that_waits_longest(bus: Bus) -> None:
    """Tokens are published in the order in which jobs may start, whatever their ids are."""
    for name, lane in (("j9", "x"), ("j5", "y"), ("j7", "x"), ("j1", "z")):
        await bus.publish_token(POOL, lane, Token(id=name, epoch=0))
    assert (await pull(bus, "none")).token.id == "j9"
    taken = [await bus.pull(POOL, ()) for _ in range(4)]
    assert [one and one.token.id for one in taken] == ["j5", "j7", "j1", None]


async def test_a_token_given_back_goes_before_those_that_were_published_after_it(bus: Bus) -> None:
    for name, lane in (("j0", "x"), ("j1", "y"), ("j2", "z"), ("j3", "y"), ("j4", "z")):
        await bus.publish_token(POOL, lane, Token(id=name, epoch=0))
    held = await pull(bus, "x")
    await (await pull(bus, "y")).ack()
    await held.nak()
    order = [(await pull_eventually(bus, ())).token.id for _ in range(4)]
    assert order == ["j0", "j2", "j3", "j4"]


async def test_a_token_given_back_comes_again_under_another_id(bus: Bus) -> None:
    await bus.publish_token(POOL, "any", Token(id="j", epoch=0))
    first = await pull(bus)
    await first.in_progress()
    assert await bus.pull(POOL, ("any",)) is None
    await first.nak()
    second = await pull_eventually(bus)
    assert second.token == first.token
    assert second.id != first.id


async def test_a_token_given_back_for_later_comes_no_sooner(bus: Bus) -> None:
    await bus.publish_token(POOL, "any", Token(id="j", epoch=0))
    began = time.monotonic()
    await (await pull(bus)).nak(0.5)
    assert await bus.pull(POOL, ("any",)) is None
    assert (await pull_eventually(bus)).token.id == "j"
    assert time.monotonic() - began >= 0.5


async def test_a_delivery_is_restored_from_its_id(bus: Bus, elsewhere: Bus) -> None:
    """What a process that was started again needs, to go on with what it held."""
    await bus.publish_token(POOL, "warm", Token(id="j", epoch=2))
    held = await pull(bus, "warm")
    again = elsewhere.restore(POOL, held.id, held.token)
    assert again is not None
    assert (again.id, again.lane, again.token) == (held.id, "warm", Token(id="j", epoch=2))
    await again.in_progress()
    assert await bus.pull(POOL, ("warm",)) is None
    await again.nak()
    other = await pull_eventually(bus)
    assert other.id != held.id
    restored = elsewhere.restore(POOL, other.id, other.token)
    assert restored is not None
    await restored.ack()
    assert await bus.pending(POOL) == {}


@pytest.mark.parametrize("strange", ["", "w-1f:5.1.1700000000.5", "$JS.ACK.LIMNER_JOBS_default", "memory:1.1"])
async def test_an_id_that_tells_of_no_delivery_restores_none(bus: Bus, strange: str) -> None:
    assert bus.restore(POOL, strange, Token(id="j", epoch=0)) is None


async def test_a_delivery_of_another_pool_is_not_restored(bus: Bus) -> None:
    await bus.publish_token("another", "any", Token(id="j", epoch=0))
    held = await bus.pull("another", ())
    assert held is not None
    assert bus.restore(POOL, held.id, held.token) is None


async def test_a_delivery_tells_its_lane(bus: Bus) -> None:
    for lane in ("any", "0123456789abcdef"):
        await bus.publish_token(POOL, lane, Token(id=f"in-{lane}", epoch=0))
        assert (await pull(bus, lane)).lane == lane


async def test_an_acknowledgement_may_be_repeated(bus: Bus) -> None:
    await bus.publish_token(POOL, "any", Token(id="j", epoch=0))
    delivery = await pull(bus)
    await delivery.ack()
    await delivery.ack()


async def test_a_wake_is_kept_until_somebody_waits(bus: Bus) -> None:
    assert await bus.wait_wake(POOL, 0.01) is None
    await bus.publish_token(POOL, "any", Token(id="j", epoch=0))
    assert await bus.wait_wake(POOL, 5) == "any"
    assert await bus.wait_wake(POOL, 0.01) is None
    waiting = asyncio.create_task(bus.wait_wake(POOL, 5))
    await asyncio.sleep(0)
    await bus.wake(POOL, "other")
    assert await waiting == "other"


async def test_requests_are_answered_many_at_once(bus: Bus) -> None:
    both = asyncio.Barrier(2)

    async def answer(body: bytes) -> Message:
        await both.wait()
        return Claimed(ok=True, reason=Claim.decode(body).id)

    serving = await bus.serve("limner.test.ask", "group", answer)
    asked = [Claim(id=f"é{n}", epoch=0, worker="w", delivery="d") for n in range(2)]
    answers = await asyncio.gather(*(bus.request("limner.test.ask", claim, Claimed, 5) for claim in asked))
    assert [answer.reason for answer in answers] == ["é0", "é1"]
    await serving.stop()


async def test_a_request_that_nobody_answers_is_unavailable(bus: Bus) -> None:
    claim = Claim(id="j", epoch=0, worker="w", delivery="d")
    with pytest.raises(NobodyAnswers):
        await bus.request("limner.test.nobody", claim, Claimed, 0.5)

    async def stumble(body: bytes) -> Message:
        raise ValueError("a bug")

    serving = await bus.serve("limner.test.bug", "group", stumble)
    with pytest.raises(Unavailable):
        await bus.request("limner.test.bug", claim, Claimed, 0.2)
    await serving.stop()


async def test_a_request_for_a_node_pack_reaches_that_worker_with_its_body(bus: Bus, elsewhere: Bus) -> None:
    body = base64.b64encode(bytes(range(256)) * 2**12).decode()  # the largest that there may be

    async def answer(received: bytes) -> Message:
        request = Route.decode(received)
        return Routed(answer={"routed": True, "path": request.asked["path"]}, body=request.body)

    serving = await elsewhere.serve(subjects.route("w-1"), subjects.WORKERS, answer)
    asked = Route(asked={"method": "POST", "path": "/pack/%C3%A4"}, body=body)
    routed = await bus.request(subjects.route("w-1"), asked, Routed, 5)
    assert (routed.answer, routed.body) == ({"routed": True, "path": "/pack/%C3%A4"}, body)
    with pytest.raises(NobodyAnswers):
        await bus.request(subjects.route("w-2"), asked, Routed, 5)
    await serving.stop()


async def test_a_message_that_is_too_large_is_told_as_such(bus: Bus) -> None:
    """Repeating it, as one does while the other side is away, would never end."""
    body = b"x" * (8 * 1024 * 1024 + 1)
    with pytest.raises(PayloadTooLarge):
        await bus.publish("limner.test", body)
    with pytest.raises(PayloadTooLarge):
        await bus.request("limner.test", Claim(id=body.decode(), epoch=0, worker="w", delivery="d"), Claimed, 0.5)


async def test_listeners_hear_what_matches_in_its_order(bus: Bus) -> None:
    heard: list[tuple[str, bytes]] = []

    async def hear(subject: str, body: bytes) -> None:
        heard.append((subject, body))
        if body == b"0":
            raise ValueError("a listener's own fault")

    one = await bus.subscribe("limner.ev.t.*", hear)
    rest = await bus.subscribe("limner.pv.>", hear)
    for n in range(20):
        await bus.publish("limner.ev.t.j", str(n).encode())
        await bus.publish("limner.ev.other.j", b"not heard")
    await bus.publish("limner.pv.t.j", b"preview")

    async def all_there() -> bool:
        return len(heard) == 21

    await eventually(all_there)
    assert [body for subject, body in heard if subject == "limner.ev.t.j"] == [str(n).encode() for n in range(20)]
    await one.stop()
    await rest.stop()


async def test_workers_are_shown_until_they_leave(bus: Bus) -> None:
    assert await bus.workers() == []
    for name in ("w2", "w1"):
        for state in ("starting", "idle"):
            await bus.put_worker(Heartbeat(worker=name, pool=POOL, state=state, version="1", catalogue="d"))
    found = await bus.workers()
    assert [(beat.worker, beat.state) for beat in found] == [("w1", "idle"), ("w2", "idle")]
    await bus.drop_worker("w1")
    assert [beat.worker for beat in await bus.workers()] == ["w2"]
