"""A bus inside one process, for tests: the same promises as NATS keeps, without a server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field

from limner import logs
from limner.bus.messages import Heartbeat, Message, Token
from limner.bus.port import Delivery, Listener, M, NobodyAnswers, Responder, Subscription
from limner.errors import PayloadTooLarge, Unavailable

log = logs.get("limner.bus")

MOST_BYTES = 8 * 1024 * 1024


@dataclass(slots=True)
class _Stored:
    sequence: int
    lane: str
    token: Token
    deliveries: int = 0
    free_at: float = 0.0  # by the monotonic clock


@dataclass(slots=True)
class _Pool:
    tokens: dict[str, _Stored] = field(default_factory=dict)
    woken: asyncio.Event = field(default_factory=asyncio.Event)
    woken_lane: str = ""


class MemoryBus:
    """`down` set makes every call raise Unavailable, as if NATS were away; `lose_everything` empties its store."""

    def __init__(self, *, ack_wait_seconds: float = 15.0, worker_seconds: float = 15.0) -> None:
        self.down = False
        self._ack_wait = ack_wait_seconds
        self._worker_seconds = worker_seconds
        self._sequence = 0
        self._pools: dict[str, _Pool] = {}
        self._listeners: list[_Subscription] = []
        self._responders: dict[str, Responder] = {}
        self._workers: dict[str, tuple[float, Heartbeat]] = {}

    @property
    def connected(self) -> bool:
        return not self.down

    def lose_everything(self) -> None:
        for pool in self._pools.values():
            pool.tokens.clear()
        self._workers.clear()

    async def publish_token(self, pool: str, lane: str, token: Token) -> None:
        self._check()
        tokens = self._pool(pool).tokens
        present = tokens.get(token.id)
        if present is None or present.token.epoch < token.epoch:
            self._sequence += 1
            tokens.pop(token.id, None)
            tokens[token.id] = _Stored(self._sequence, lane, token)
        await self.wake(pool, lane)

    async def purge(self, pool: str, lane: str, job_id: str) -> None:  # noqa: ARG002 - the port's signature
        self._check()
        self._pool(pool).tokens.pop(job_id, None)

    async def pending(self, pool: str) -> dict[str, str]:
        self._check()
        return {job_id: stored.lane for job_id, stored in self._pool(pool).tokens.items()}

    async def ensure_lanes(self, pool: str, lanes: Iterable[str]) -> None:  # noqa: ARG002 - the port's signature
        self._check()

    async def pull(self, pool: str, lanes: Sequence[str]) -> Delivery | None:
        self._check()
        now = time.monotonic()
        free = [stored for stored in self._pool(pool).tokens.values() if stored.free_at <= now]
        order = {lane: place for place, lane in enumerate(lanes)}
        for stored in sorted(free, key=lambda s: (order.get(s.lane, len(order)), s.sequence)):
            stored.deliveries += 1
            stored.free_at = now + self._ack_wait
            return _Delivery(self, pool, stored.lane, stored.token, stored.sequence, stored.deliveries)
        return None

    def restore(self, pool: str, delivery_id: str, token: Token) -> Delivery | None:
        match delivery_id.split(":"):
            case ["memory", of, lane, sequence, number] if of == pool:
                return _Delivery(self, pool, lane, token, int(sequence), int(number))
        return None

    async def wake(self, pool: str, lane: str) -> None:
        self._check()
        found = self._pool(pool)
        found.woken_lane = lane
        found.woken.set()

    async def wait_wake(self, pool: str, timeout: float) -> str | None:
        found = self._pool(pool)
        try:
            await asyncio.wait_for(found.woken.wait(), timeout)
        except TimeoutError:
            return None
        found.woken.clear()
        return found.woken_lane

    async def request(self, subject: str, message: Message, answer: type[M], timeout: float) -> M:
        self._check(message.encode())
        responder = self._responders.get(subject)
        if responder is None:
            raise NobodyAnswers(f"Nobody answers on {subject}.")
        try:
            replied = await asyncio.wait_for(responder(message.encode()), timeout)
        except TimeoutError as error:
            raise Unavailable(f"No answer on {subject}.") from error
        except Exception as error:  # over a wire the asker would only see that no answer comes
            log.exception("a request made the gateway stumble", subject=subject)
            raise Unavailable(f"No answer on {subject}.") from error
        return answer.decode(replied.encode())

    async def serve(self, subject: str, queue_group: str, responder: Responder) -> Subscription:  # noqa: ARG002
        self._responders[subject] = responder

        async def stop() -> None:
            self._responders.pop(subject, None)

        return _Subscription("", None, stop)

    async def publish(self, subject: str, body: bytes) -> None:
        self._check(body)
        for subscription in list(self._listeners):
            if subscription.listener is not None and _matches(subscription.subject, subject):
                try:
                    await subscription.listener(subject, body)
                except Exception:
                    log.exception("a listener stumbled over a message", subject=subject)

    async def subscribe(self, subject: str, listener: Listener) -> Subscription:
        async def stop() -> None:
            self._listeners.remove(subscription)

        subscription = _Subscription(subject, listener, stop)
        self._listeners.append(subscription)
        return subscription

    async def put_worker(self, heartbeat: Heartbeat) -> None:
        self._check()
        self._workers[heartbeat.worker] = (time.monotonic() + self._worker_seconds, heartbeat)

    async def drop_worker(self, worker: str) -> None:
        self._check()
        self._workers.pop(worker, None)

    async def workers(self) -> list[Heartbeat]:
        self._check()
        now = time.monotonic()
        return [beat for _, (until, beat) in sorted(self._workers.items()) if until > now]

    async def close(self) -> None:
        self._listeners.clear()
        self._responders.clear()

    def _check(self, body: bytes = b"") -> None:
        if self.down:
            raise Unavailable("The bus is down.")
        if len(body) > MOST_BYTES:
            raise PayloadTooLarge(f"A message of {len(body) / 1e6:.1f} MB is more than the bus takes.")

    def _pool(self, pool: str) -> _Pool:
        return self._pools.setdefault(pool, _Pool())

    def _stored(self, pool: str, sequence: int, job_id: str) -> _Stored | None:
        self._check()
        stored = self._pool(pool).tokens.get(job_id)
        return stored if stored is not None and stored.sequence == sequence else None

    def _acknowledge(self, pool: str, sequence: int, job_id: str) -> None:
        if self._stored(pool, sequence, job_id) is not None:
            del self._pool(pool).tokens[job_id]

    def _free_in(self, pool: str, sequence: int, job_id: str, seconds: float) -> None:
        if stored := self._stored(pool, sequence, job_id):
            stored.free_at = time.monotonic() + seconds


class _Delivery:
    def __init__(self, bus: MemoryBus, pool: str, lane: str, token: Token, sequence: int, number: int) -> None:
        self._bus = bus
        self._pool = pool
        self._lane = lane
        self._sequence = sequence
        self._token = token
        self._id = f"memory:{pool}:{lane}:{sequence}:{number}"

    @property
    def token(self) -> Token:
        return self._token

    @property
    def id(self) -> str:
        return self._id

    @property
    def lane(self) -> str:
        return self._lane

    async def ack(self) -> None:
        self._bus._acknowledge(self._pool, self._sequence, self._token.id)

    async def in_progress(self) -> None:
        self._bus._free_in(self._pool, self._sequence, self._token.id, self._bus._ack_wait)

    async def nak(self, delay_seconds: float = 0.0) -> None:
        self._bus._free_in(self._pool, self._sequence, self._token.id, delay_seconds)
        if not delay_seconds:
            await self._bus.wake(self._pool, "")


class _Subscription:
    def __init__(self, subject: str, listener: Listener | None, stop: Callable[[], Awaitable[None]]) -> None:
        self.subject = subject
        self.listener = listener
        self._stop = stop

    async def stop(self) -> None:
        await self._stop()


def _matches(pattern: str, subject: str) -> bool:
    parts, given = pattern.split("."), subject.split(".")
    if parts[-1] == ">":
        parts, given = parts[:-1], given[: len(parts) - 1]
    return len(parts) == len(given) and all(p in ("*", g) for p, g in zip(parts, given, strict=True))
