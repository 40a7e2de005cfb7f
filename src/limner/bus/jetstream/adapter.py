"""The bus over NATS: JetStream for job tokens and the list of workers, core messages for everything else."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterable, Sequence

import nats.errors
from nats.aio.msg import Msg

from limner import logs
from limner.bus import port, subjects
from limner.bus.jetstream.connection import Connection
from limner.bus.jetstream.delivery import Delivery, parts_of, stream_and_lane
from limner.bus.jetstream.layout import Layout
from limner.bus.jetstream.pulling import Pulling
from limner.bus.jetstream.requests import Requests
from limner.bus.jetstream.tokens import Tokens
from limner.bus.jetstream.wakes import Wake
from limner.bus.jetstream.workers import Workers
from limner.bus.messages import Heartbeat, Message, Token
from limner.bus.port import Listener, M, Responder, Subscription
from limner.errors import Unavailable

log = logs.get("limner.bus")


class JetStreamBus:
    """Connects by itself, again and again; while there is no server every call raises Unavailable."""

    def __init__(self, connection: Connection, *, replicas: int) -> None:
        self._connection = connection
        self._requests = Requests(connection)
        layout = Layout(self._requests, replicas)
        self._tokens = Tokens(self._requests, layout)
        self._workers = Workers(self._requests, layout)
        self._pulling: dict[str, Pulling] = {}
        self._wakes: dict[str, Wake] = {}
        self._taker = secrets.token_hex(4)
        self._tasks: set[asyncio.Task[None]] = set()
        connection.on_back = self._wake_all

    @classmethod
    async def connect(
        cls,
        url: str,
        *,
        token: str | None = None,
        name: str = "limner",
        inbox_prefix: str = "_INBOX",
        replicas: int = 1,
        wait_seconds: float = 5.0,
    ) -> JetStreamBus:
        """Returns once connected, or after `wait_seconds` all the same: it then goes on trying in the background.

        Raises Misconfigured for a URL that cannot be used.
        """
        connection = Connection(url, token=token, name=name, inbox_prefix=inbox_prefix)
        bus = cls(connection, replicas=replicas)
        await connection.open(wait_seconds)
        return bus

    @property
    def connected(self) -> bool:
        return self._connection.connected

    async def publish_token(self, pool: str, lane: str, token: Token) -> None:
        await self._tokens.publish(pool, lane, token)
        await self.wake(pool, lane)

    async def purge(self, pool: str, lane: str, job_id: str) -> None:
        await self._tokens.purge(pool, lane, job_id)

    async def pending(self, pool: str) -> dict[str, str]:
        return await self._tokens.pending(pool)

    async def ensure_lanes(self, pool: str, lanes: Iterable[str]) -> None:
        await self._tokens.ensure_lanes(pool, lanes)

    async def pull(self, pool: str, lanes: Sequence[str]) -> port.Delivery | None:
        await self._wake_of(pool)
        pulling = self._pulling.setdefault(pool, Pulling(self._connection, self._requests, pool))
        message = await pulling.pull(lanes)
        return None if message is None else self._delivery(Token.decode(message.data), message.reply, self._taker)

    def restore(self, pool: str, delivery_id: str, token: Token) -> port.Delivery | None:
        acks, taker = parts_of(delivery_id)
        return self._delivery(token, acks, taker) if stream_and_lane(acks)[0] == subjects.stream(pool) else None

    def _delivery(self, token: Token, acks: str, taker: str) -> Delivery:
        return Delivery(self._connection, self._requests, token, acks, taker)

    async def wake(self, pool: str, lane: str) -> None:
        await self.publish(subjects.wake(pool), lane.encode())

    async def wait_wake(self, pool: str, timeout: float) -> str | None:
        try:
            wake = await self._wake_of(pool)
            return await asyncio.wait_for(wake.next(), timeout)
        except TimeoutError:
            return None

    async def _wake_of(self, pool: str) -> Wake:
        wake = self._wakes.get(pool)
        if wake is None:
            wake = self._wakes[pool] = Wake()

            async def hear(message: Msg) -> None:
                wake.come(message.data.decode(errors="replace"))

            await self._connection.listen(subjects.wake(pool), "", hear)
        return wake

    def _wake_all(self) -> None:
        for wake in self._wakes.values():
            wake.come("")

    async def request(self, subject: str, message: Message, answer: type[M], timeout: float) -> M:
        return answer.decode((await self._requests.ask(subject, message.encode(), timeout=timeout)).data)

    async def serve(self, subject: str, queue_group: str, responder: Responder) -> Subscription:
        async def hear(message: Msg) -> None:
            task = asyncio.create_task(_answer(message, responder))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        return await self._connection.listen(subject, queue_group, hear)

    async def publish(self, subject: str, body: bytes) -> None:
        await self._connection.publish(subject, body)

    async def subscribe(self, subject: str, listener: Listener) -> Subscription:
        async def hear(message: Msg) -> None:
            try:
                await listener(message.subject, message.data)
            except Exception:
                log.exception("a listener stumbled over a message", subject=message.subject)

        return await self._connection.listen(subject, "", hear)

    async def put_worker(self, heartbeat: Heartbeat) -> None:
        await self._workers.put(heartbeat)

    async def drop_worker(self, worker: str) -> None:
        await self._workers.drop(worker)

    async def workers(self) -> list[Heartbeat]:
        return await self._workers.all()

    async def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._connection.close()


async def _answer(message: Msg, responder: Responder) -> None:
    try:
        await message.respond((await responder(message.data)).encode())
    except Unavailable as error:  # the asker repeats its request
        log.warning("a request went unanswered", subject=message.subject, error=error.message)
    except nats.errors.Error as error:
        log.warning("an answer was lost", subject=message.subject, error=repr(error))
    except Exception:
        log.exception("a request made the gateway stumble", subject=message.subject)
