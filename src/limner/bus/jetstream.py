"""The bus over NATS: JetStream for job tokens and the list of workers, core messages for everything else.

docs/architecture.md tells why each setting is what it is. JetStream's API is spoken directly (JSON over requests):
it is small, and the stream settings then stand here in the server's own words.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import secrets
import time
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription as NatsSubscription

from limner import logs
from limner.bus import subjects
from limner.bus.messages import Heartbeat, Message, Token
from limner.bus.port import Delivery, Listener, M, Responder, Subscription
from limner.errors import Misconfigured, PayloadTooLarge, Unavailable

log = logs.get("limner.bus")

API = "$JS.API"
SECOND = 10**9  # JetStream counts in nanoseconds
ACK_WAIT_SECONDS = 15
ANSWER_SECONDS = 2.0
WORKER_SECONDS = 15
AGAIN_SECONDS = 1.0

NO_SUCH_STREAM = 10059
OTHER_SETTINGS = 10058
SUBJECT_TAKEN = 10077


class _Refused(Exception):
    """JetStream answered with an error."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(str(error.get("description", error)))
        self.code = int(error.get("err_code", 0))


def jobs_stream(pool: str, replicas: int) -> dict[str, Any]:
    """One token per job, also after a restart: a subject holds one message, and refuses another while it is there."""
    return {
        "name": subjects.stream(pool),
        "subjects": [subjects.jobs_of(pool)],
        "retention": "workqueue",
        "storage": "file",
        "discard": "new",
        "max_msgs": 100_000,
        "max_msgs_per_subject": 1,
        "discard_new_per_subject": True,
        "duplicate_window": 120 * SECOND,
        "allow_direct": True,
        "num_replicas": replicas,
    }


def lane_consumer(pool: str, lane: str) -> dict[str, Any]:
    """Attempts are counted by the claim, so deliveries are not limited: a dead message would stay for ever."""
    return {
        "durable_name": lane,
        "name": lane,
        "filter_subject": subjects.jobs_of(pool, lane),
        "ack_policy": "explicit",
        "ack_wait": ACK_WAIT_SECONDS * SECOND,
        "max_deliver": -1,
        "max_ack_pending": 10_000,
        "inactive_threshold": 3600 * SECOND,
    }


def workers_stream(replicas: int) -> dict[str, Any]:
    """The key-value bucket of live workers: the last heartbeat of each, for 15 s."""
    return {
        "name": f"KV_{subjects.WORKERS_BUCKET}",
        "subjects": [f"$KV.{subjects.WORKERS_BUCKET}.>"],
        "retention": "limits",
        "storage": "memory",
        "discard": "new",
        "max_msgs_per_subject": 1,
        "max_age": WORKER_SECONDS * SECOND,
        "duplicate_window": WORKER_SECONDS * SECOND,
        "allow_rollup_hdrs": True,
        "deny_delete": True,
        "allow_direct": True,
        "num_replicas": replicas,
    }


class JetStreamBus:
    """Connects by itself, again and again; while there is no server every call raises Unavailable."""

    def __init__(self, url: str, *, token: str | None, name: str, inbox_prefix: str, replicas: int) -> None:
        self._nc = Client()
        self._settings: dict[str, Any] = {
            "servers": url,
            "token": token,
            "name": name,
            "inbox_prefix": inbox_prefix,
            "max_reconnect_attempts": -1,
            "reconnect_time_wait": 0.25,
            "ping_interval": 10,
            "error_cb": self._on_error,
            "reconnected_cb": self._on_reconnected,
        }
        self._last_error = ""
        self._taker = secrets.token_hex(4)
        self._replicas = replicas
        self._streams: set[str] = set()
        self._lanes: set[tuple[str, str]] = set()
        self._puller = _Puller(self._nc)
        self._wakes: dict[str, _Wake] = {}
        self._subscriptions: list[_Subscription] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._connecting: asyncio.Task[None] | None = None
        self._closing = False

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
        bus = cls(url, token=token, name=name, inbox_prefix=inbox_prefix, replicas=replicas)
        bus._connecting = asyncio.create_task(bus._connect(), name="limner-bus-connect")
        await asyncio.wait([bus._connecting], timeout=wait_seconds)
        if bus._connecting.done() and (fault := bus._connecting.exception()) is not None:
            raise Misconfigured(f"NATS cannot be used at {_without_secrets(url)}: {_words(fault)}") from fault
        return bus

    @property
    def connected(self) -> bool:
        return bool(self._nc.is_connected)

    async def publish_token(self, pool: str, lane: str, token: Token) -> None:
        await self._ensure_lane(pool, lane)
        subject = subjects.job(pool, lane, token.id)
        headers = {"Nats-Msg-Id": f"{token.id}.{token.epoch}"}
        for _ in range(3):
            try:
                await self._api_request(subject, token.encode(), headers=headers)
            except _Refused as error:
                if error.code != SUBJECT_TAKEN:
                    raise Unavailable(f"JetStream refused the token of job {token.id}: {error}") from error
                if not await self._made_room(pool, subject, token):
                    break
            else:
                break
        else:
            raise Unavailable(f"The token of job {token.id} keeps meeting another one.")
        await self.wake(pool, lane)

    async def _made_room(self, pool: str, subject: str, token: Token) -> bool:
        """Removes an older token from the subject. False: one that is as new is there already."""
        stream = subjects.stream(pool)
        present = await self._request(f"{API}.DIRECT.GET.{stream}.{subject}", b"")
        if _status(present) is None and Token.decode(present.data).epoch >= token.epoch:
            return False
        try:
            await self._api(f"STREAM.PURGE.{stream}", {"filter": subject})
        except _Refused as error:
            raise Unavailable(f"JetStream did not remove an older token of job {token.id}: {error}") from error
        return True

    async def purge(self, pool: str, lane: str, job_id: str) -> None:
        try:
            await self._api(f"STREAM.PURGE.{subjects.stream(pool)}", {"filter": subjects.job(pool, lane, job_id)})
        except _Refused as error:
            if error.code != NO_SUCH_STREAM:
                raise Unavailable(f"JetStream did not purge the token of job {job_id}: {error}") from error

    async def pending(self, pool: str) -> dict[str, str]:
        await self._ensure_stream(jobs_stream(pool, self._replicas))
        wanted = {"subjects_filter": subjects.jobs_of(pool)}
        try:
            info = await self._api(f"STREAM.INFO.{subjects.stream(pool)}", wanted)
        except _Refused as error:
            self._forget_layout()
            raise Unavailable(f"JetStream does not list the tokens of pool {pool}: {error}") from error
        state = info["state"]
        found = state.get("subjects") or {}
        if len(found) != state.get("num_subjects", 0):
            raise Unavailable(f"JetStream listed {len(found)} of {state['num_subjects']} tokens only.")
        parts = (subject.rsplit(".", 2) for subject in found)
        return {job_id: lane for _, lane, job_id in parts}

    async def ensure_lanes(self, pool: str, lanes: Iterable[str]) -> None:
        for lane in lanes:
            self._lanes.discard((pool, lane))
            await self._ensure_lane(pool, lane)

    async def pull(self, pool: str, lanes: Sequence[str]) -> Delivery | None:
        await self._wake_of(pool)
        for lane in lanes:
            if delivery := await self._pull_lane(pool, lane):
                return delivery
        for lane in await self._other_lanes(pool, lanes):
            if delivery := await self._pull_lane(pool, lane):
                return delivery
        return None

    async def _pull_lane(self, pool: str, lane: str) -> Delivery | None:
        """One try, no waiting: an open pull would die with the server, and nobody would notice."""
        self._check_connected()
        try:
            message = await self._puller.pull(f"{API}.CONSUMER.MSG.NEXT.{subjects.stream(pool)}.{lane}")
        except nats.errors.Error as error:
            raise Unavailable(f"No token came from lane {lane}: {_words(error)}") from error
        return None if message is None else _Delivery(self, Token.decode(message.data), message.reply, self._taker)

    def restore(self, pool: str, delivery_id: str, token: Token) -> Delivery | None:
        acks, _, taker = delivery_id.partition(" ")
        if _stream_and_lane(acks)[0] != subjects.stream(pool):
            return None
        return _Delivery(self, token, acks, taker)

    async def _other_lanes(self, pool: str, lanes: Sequence[str]) -> list[str]:
        """Lanes with tokens beside the given ones, that of the oldest job first (ids rise with time)."""
        subject = f"{API}.STREAM.INFO.{subjects.stream(pool)}"
        try:
            answer = await self._request(subject, json.dumps({"subjects_filter": subjects.jobs_of(pool)}).encode())
        except _NobodyAnswers:
            return []
        found = json.loads(answer.data).get("state", {}).get("subjects") or {}
        oldest_first = sorted((subject.rsplit(".", 2)[2], subject.rsplit(".", 2)[1]) for subject in found)
        return [lane for lane in dict.fromkeys(lane for _, lane in oldest_first) if lane not in lanes]

    async def wake(self, pool: str, lane: str) -> None:
        await self.publish(subjects.wake(pool), lane.encode())

    async def wait_wake(self, pool: str, timeout: float) -> str | None:
        try:
            wake = await self._wake_of(pool)
            return await asyncio.wait_for(wake.next(), timeout)
        except TimeoutError:
            return None

    async def _wake_of(self, pool: str) -> _Wake:
        wake = self._wakes.get(pool)
        if wake is None:
            wake = self._wakes[pool] = _Wake()
            await self.subscribe(subjects.wake(pool), wake.hear)
        return wake

    async def request(self, subject: str, message: Message, answer: type[M], timeout: float) -> M:
        return answer.decode((await self._request(subject, message.encode(), timeout=timeout)).data)

    async def serve(self, subject: str, queue_group: str, responder: Responder) -> Subscription:
        async def answer(message: Msg) -> None:
            try:
                await message.respond((await responder(message.data)).encode())
            except Unavailable as error:  # the asker repeats its request
                log.warning("a request went unanswered", subject=subject, error=error.message)
            except nats.errors.Error as error:
                log.warning("an answer was lost", subject=subject, error=repr(error))
            except Exception:
                log.exception("a request made the gateway stumble", subject=subject)

        async def hear(message: Msg) -> None:
            task = asyncio.create_task(answer(message))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        return await self._listen(_Subscription(subject, queue_group, hear))

    async def publish(self, subject: str, body: bytes) -> None:
        self._check_connected()
        try:
            await self._nc.publish(subject, body)
        except nats.errors.MaxPayloadError as error:
            raise _too_large(subject, body) from error
        except nats.errors.Error as error:
            raise Unavailable(f"NATS took no message on {subject}: {_words(error)}") from error

    async def subscribe(self, subject: str, listener: Listener) -> Subscription:
        async def hear(message: Msg) -> None:
            try:
                await listener(message.subject, message.data)
            except Exception:
                log.exception("a listener stumbled over a message", subject=message.subject)

        return await self._listen(_Subscription(subject, "", hear))

    async def put_worker(self, heartbeat: Heartbeat) -> None:
        await self._put(heartbeat.worker, heartbeat.encode(), {})

    async def drop_worker(self, worker: str) -> None:
        await self._put(worker, b"", {"KV-Operation": "DEL"})

    async def _put(self, worker: str, body: bytes, headers: dict[str, str]) -> None:
        await self._ensure_stream(workers_stream(self._replicas))
        try:
            await self._api_request(f"$KV.{subjects.WORKERS_BUCKET}.{worker}", body, headers=headers or None)
        except _Refused as error:
            raise Unavailable(f"JetStream did not take the heartbeat of {worker}: {error}") from error

    async def workers(self) -> list[Heartbeat]:
        await self._ensure_stream(workers_stream(self._replicas))
        wanted = {"multi_last": [f"$KV.{subjects.WORKERS_BUCKET}.>"]}
        found = await self._request_many(f"{API}.DIRECT.GET.KV_{subjects.WORKERS_BUCKET}", json.dumps(wanted).encode())
        beats = [Heartbeat.decode(message.data) for message in found if message.data]
        return sorted(beats, key=lambda beat: beat.worker)

    async def close(self) -> None:
        self._closing = True
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.gather(self._connecting, return_exceptions=True)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self.connected:
            with contextlib.suppress(nats.errors.Error, asyncio.TimeoutError, OSError):
                await self._nc.flush(timeout=1)
        await self._nc.close()

    # ---- the connection

    async def _connect(self) -> None:
        """Returns once connected. Raises only what the client says to a URL that it cannot read."""
        while True:
            client = self._nc
            try:
                await client.connect(**self._settings, closed_cb=partial(self._on_closed, client))
                break
            except Exception:
                if not client.servers:
                    raise
                log.exception("NATS could not be connected, for no known reason")
            self._begin_anew()
            await asyncio.gather(client.close(), return_exceptions=True)
            await asyncio.sleep(AGAIN_SECONDS)
        for subscription in self._subscriptions:
            await subscription.begin(client)

    async def _on_closed(self, client: Client) -> None:
        """The client gives up for good on some errors that the server tells, as "maximum connections exceeded"."""
        if self._closing or client is not self._nc:
            return
        log.error("the connection to NATS was closed; a new one follows", error=str(client.last_error))
        await asyncio.sleep(AGAIN_SECONDS)
        if not self._closing:
            self._begin_anew()
            self._connecting = asyncio.create_task(self._connect_again(), name="limner-bus-connect")

    async def _connect_again(self) -> None:
        await self._connect()
        await self._on_reconnected()

    def _begin_anew(self) -> None:
        """A client that was closed is of no use any more."""
        self._nc = Client()
        self._puller = _Puller(self._nc)
        for subscription in self._subscriptions:
            subscription.forget()

    async def _listen(self, subscription: _Subscription) -> Subscription:
        """Begins now, or with the first connection. After a reconnect the client subscribes again by itself."""
        self._subscriptions.append(subscription)
        if self._connecting is not None and self._connecting.done():
            await subscription.begin(self._nc)
        return subscription

    async def _on_error(self, error: Exception) -> None:
        """Called for each vain try to reconnect, four a second: the first is enough to know."""
        if _words(error) != self._last_error:
            self._last_error = _words(error)
            log.warning("NATS", error=self._last_error)

    async def _on_reconnected(self) -> None:
        self._last_error = ""
        log.info("NATS is back")
        self._forget_layout()
        for subscription in self._subscriptions:  # those that could not begin when they were asked for
            await subscription.begin(self._nc)
        for wake in self._wakes.values():
            await wake.hear("", b"")

    def _forget_layout(self) -> None:
        """The server may have come back with an empty store."""
        self._streams.clear()
        self._lanes.clear()

    def _check_connected(self) -> None:
        if not self.connected:
            raise Unavailable("There is no connection to NATS now.")

    # ---- JetStream's layout, made when it is needed

    async def _ensure_lane(self, pool: str, lane: str) -> None:
        await self._ensure_stream(jobs_stream(pool, self._replicas))
        if (pool, lane) in self._lanes:
            return
        stream, config = subjects.stream(pool), lane_consumer(pool, lane)
        try:
            await self._api(
                f"CONSUMER.CREATE.{stream}.{lane}.{config['filter_subject']}", {"stream_name": stream, "config": config}
            )
        except _Refused as error:
            self._forget_layout()
            raise Unavailable(f"JetStream did not make lane {lane}: {error}") from error
        self._lanes.add((pool, lane))

    async def _ensure_stream(self, config: dict[str, Any]) -> None:
        name = config["name"]
        if name in self._streams:
            return
        try:
            try:
                await self._api(f"STREAM.CREATE.{name}", config)
            except _Refused as error:
                if error.code != OTHER_SETTINGS:
                    raise
                await self._api(f"STREAM.UPDATE.{name}", config)
        except _Refused as error:
            raise Unavailable(f"JetStream did not make the stream {name}: {error}") from error
        self._streams.add(name)

    # ---- requests

    async def _api(self, subject: str, body: dict[str, Any]) -> dict[str, Any]:
        return await self._api_request(f"{API}.{subject}", json.dumps(body).encode())

    async def _api_request(self, subject: str, body: bytes, *, headers: dict[str, str] | None = None) -> dict[str, Any]:
        """Asks JetStream. Raises _Refused with its error, Unavailable without an answer."""
        try:
            message = await self._request(subject, body, headers=headers)
        except _NobodyAnswers:  # no such stream: it is made again before the next try
            self._forget_layout()
            raise
        answer: dict[str, Any] = json.loads(message.data)
        if "error" in answer:
            raise _Refused(answer["error"])
        return answer

    async def _request(
        self,
        subject: str,
        body: bytes,
        *,
        headers: dict[str, str] | None = None,
        timeout: float = ANSWER_SECONDS,
        own_inbox: bool = False,
    ) -> Msg:
        """`own_inbox`: a pulled message bears its own subject, by which the shared inbox cannot tell whose it is."""
        self._check_connected()
        try:
            return await self._nc.request(subject, body, timeout=timeout, old_style=own_inbox, headers=headers)
        except nats.errors.MaxPayloadError as error:
            raise _too_large(subject, body) from error
        except nats.errors.NoRespondersError as error:
            raise _NobodyAnswers(f"Nobody answers on {subject}.") from error
        except nats.errors.Error as error:
            raise Unavailable(f"No answer on {subject}: {_words(error)}") from error

    async def _request_many(self, subject: str, body: bytes) -> list[Msg]:
        """All answers of a batched request, whose end is told by a message with a status."""
        self._check_connected()
        found: list[Msg] = []
        inbox = self._nc.new_inbox()
        try:
            subscription = await self._nc.subscribe(inbox)
            try:
                await self._nc.publish(subject, body, reply=inbox)
                while _status(message := await subscription.next_msg(timeout=ANSWER_SECONDS)) is None:
                    found.append(message)
            finally:
                await subscription.unsubscribe()
        except nats.errors.Error as error:
            raise Unavailable(f"No answer on {subject}: {_words(error)}") from error
        if _status(message) == "503":
            self._forget_layout()
            raise Unavailable(f"Nobody answers on {subject}.")
        return found


class _Puller:
    """Asks for one token at a time.

    A token comes under its own subject, so that nothing in it tells which request it answers; the client's
    request() cannot take it. One that comes after its request was given up serves the next one, while it is fresh.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._inbox = ""
        self._number = 0
        self._one_at_a_time = asyncio.Lock()
        self._came: asyncio.Queue[tuple[float, Msg]] = asyncio.Queue()

    async def pull(self, subject: str) -> Msg | None:
        """None: nothing there, or no such lane. Raises the client's TimeoutError without an answer."""
        async with self._one_at_a_time:
            if not self._inbox:
                inbox = self._client.new_inbox()
                await self._client.subscribe(f"{inbox}.*", cb=self._hear)
                self._inbox = inbox
            self._number += 1
            reply = f"{self._inbox}.{self._number}"
            if message := self._left_over():
                return message
            await self._client.publish(subject, b'{"batch":1,"no_wait":true}', reply=reply)
            return await self._answer(reply)

    async def _hear(self, message: Msg) -> None:
        self._came.put_nowait((time.monotonic(), message))

    def _left_over(self) -> Msg | None:
        while not self._came.empty():
            came, message = self._came.get_nowait()
            if message.data and time.monotonic() - came < ACK_WAIT_SECONDS / 3:
                return message
        return None

    async def _answer(self, reply: str) -> Msg | None:
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                while True:
                    _, message = await self._came.get()
                    if message.data:
                        return message
                    if message.subject == reply:
                        return None
        except TimeoutError:
            raise nats.errors.TimeoutError from None


class _NobodyAnswers(Unavailable):
    """The server is there, but nobody listens on the subject."""


class _Delivery:
    """Known by the subject under which it is acknowledged, which every connection may use.

    A killed server may forget how often it had delivered a token, and then tells the same subject again: hence
    `taker` in the id, which differs for each start of a process.
    """

    def __init__(self, bus: JetStreamBus, token: Token, acks: str, taker: str) -> None:
        self._bus = bus
        self._token = token
        self._acks = acks
        self._id = f"{acks} {taker}"
        self._acknowledged = False

    @property
    def token(self) -> Token:
        return self._token

    @property
    def id(self) -> str:
        return self._id

    @property
    def lane(self) -> str:
        return _stream_and_lane(self._acks)[1]

    async def ack(self) -> None:
        if self._acknowledged:
            return
        with contextlib.suppress(_NobodyAnswers):  # neither lane nor token exist any more
            await self._bus._request(self._acks, b"")
        self._acknowledged = True

    async def in_progress(self) -> None:
        await self._bus.publish(self._acks, b"+WPI")

    async def nak(self, delay_seconds: float = 0.0) -> None:
        delay = json.dumps({"delay": round(delay_seconds * SECOND)}) if delay_seconds else ""
        await self._bus.publish(self._acks, f"-NAK {delay}".strip().encode())


def _stream_and_lane(acks: str) -> tuple[str, str]:
    """What `$JS.ACK.[DOMAIN.ACCOUNT.]STREAM.LANE.…` names; empty where it is no such subject."""
    parts = acks.split(".")
    if parts[:2] != ["$JS", "ACK"] or len(parts) < 9:
        return "", ""
    at = 2 if len(parts) == 9 else 4
    return parts[at], parts[at + 1]


class _Subscription:
    def __init__(self, subject: str, queue_group: str, hear: Any) -> None:
        self._subject = subject
        self._queue_group = queue_group
        self._hear = hear
        self._inner: NatsSubscription | None = None
        self._stopped = False

    async def begin(self, client: Client) -> None:
        if self._stopped or self._inner is not None:
            return
        try:
            self._inner = await client.subscribe(self._subject, queue=self._queue_group, cb=self._hear)
            await client.flush(timeout=2)  # known to the server before anybody relies on it
        except (OSError, nats.errors.Error) as error:
            log.warning("a subscription begins with the next connection", subject=self._subject, error=_words(error))

    def forget(self) -> None:
        """Its client is gone: it begins again with the next."""
        self._inner = None

    async def stop(self) -> None:
        self._stopped = True
        if self._inner is not None:
            with contextlib.suppress(nats.errors.Error):  # a closed connection has ended it already
                await self._inner.unsubscribe()


class _Wake:
    """The last wake that nobody has taken yet."""

    def __init__(self) -> None:
        self._came = asyncio.Event()
        self._lane = ""

    async def hear(self, _subject: str, body: bytes) -> None:
        self._lane = body.decode(errors="replace")
        self._came.set()

    async def next(self) -> str:
        await self._came.wait()
        self._came.clear()
        return self._lane


def _status(message: Msg) -> str | None:
    """JetStream answers "nothing there" with an empty message that bears a status."""
    if message.data or not message.headers:
        return None
    return str(message.headers["Status"]) if "Status" in message.headers else None


def _too_large(subject: str, body: bytes) -> PayloadTooLarge:
    return PayloadTooLarge(f"A message of {len(body) / 1e6:.1f} MB on {subject} is more than NATS takes.")


def _without_secrets(url: str) -> str:
    return re.sub(r"//[^/@]*@", "//", url)


def _words(error: BaseException) -> str:
    return str(error) or type(error).__name__
