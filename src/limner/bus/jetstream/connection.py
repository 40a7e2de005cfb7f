"""One connection to NATS that comes back by itself, whatever ends it, and the subscriptions that live on it."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription as NatsSubscription

from limner import logs
from limner.errors import Misconfigured, PayloadTooLarge, Unavailable

log = logs.get("limner.bus")

AGAIN_SECONDS = 1.0

Hear = Callable[[Msg], Awaitable[None]]


class Connection:
    """Connects by itself, again and again; while there is no server every call raises Unavailable.

    `times`: how often it has come back. `on_back` is called each time, with all subscriptions in place.
    """

    def __init__(self, url: str, *, token: str | None, name: str, inbox_prefix: str) -> None:
        self.times = 0
        self.on_back: Callable[[], None] = lambda: None
        self._client = Client()
        self._url = url
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
        self._subscriptions: list[Listening] = []
        self._connecting: asyncio.Task[None] | None = None
        self._closing = False

    async def open(self, wait_seconds: float) -> None:
        """Returns once connected, or after `wait_seconds` all the same: it then goes on trying in the background.

        Raises Misconfigured for a URL that cannot be used.
        """
        self._connecting = asyncio.create_task(self._connect(), name="limner-bus-connect")
        await asyncio.wait([self._connecting], timeout=wait_seconds)
        if self._connecting.done() and (fault := self._connecting.exception()) is not None:
            raise Misconfigured(f"NATS cannot be used at {_without_secrets(self._url)}: {words(fault)}") from fault

    @property
    def connected(self) -> bool:
        return bool(self._client.is_connected)

    def client(self) -> Client:
        """The client that is connected now; another one after some faults. Raises Unavailable."""
        if not self.connected:
            raise Unavailable("There is no connection to NATS now.")
        return self._client

    async def publish(self, subject: str, body: bytes) -> None:
        """Sends without waiting. Raises Unavailable, PayloadTooLarge."""
        client = self.client()
        try:
            await client.publish(subject, body)
        except nats.errors.MaxPayloadError as error:
            raise too_large(subject, body) from error
        except nats.errors.Error as error:
            raise Unavailable(f"NATS took no message on {subject}: {words(error)}") from error

    async def listen(self, subject: str, queue_group: str, hear: Hear) -> Listening:
        """Begins now, or with the first connection. After a reconnect the client subscribes again by itself."""
        listening = Listening(subject, queue_group, hear)
        self._subscriptions.append(listening)
        if self._connecting is not None and self._connecting.done():
            await listening.begin(self._client)
        return listening

    async def close(self) -> None:
        self._closing = True
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.gather(self._connecting, return_exceptions=True)
        if self.connected:
            with contextlib.suppress(nats.errors.Error, asyncio.TimeoutError, OSError):
                await self._client.flush(timeout=1)
        await self._client.close()

    async def _connect(self) -> None:
        """Returns once connected. Raises only what the client says to a URL that it cannot read."""
        while True:
            client = self._client
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
        for listening in self._subscriptions:
            await listening.begin(client)

    async def _on_closed(self, client: Client) -> None:
        """The client gives up for good on some errors that the server tells, as "maximum connections exceeded"."""
        if self._closing or client is not self._client:
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
        self._client = Client()
        for listening in self._subscriptions:
            listening.forget()

    async def _on_error(self, error: Exception) -> None:
        """Called for each vain try to reconnect, four a second: the first is enough to know."""
        if words(error) != self._last_error:
            self._last_error = words(error)
            log.warning("NATS", error=self._last_error)

    async def _on_reconnected(self) -> None:
        self._last_error = ""
        log.info("NATS is back")
        self.times += 1
        for listening in self._subscriptions:  # those that could not begin when they were asked for
            await listening.begin(self._client)
        self.on_back()


class Listening:
    """A subscription that holds over every reconnect, until it is stopped."""

    def __init__(self, subject: str, queue_group: str, hear: Hear) -> None:
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
            log.warning("a subscription begins with the next connection", subject=self._subject, error=words(error))

    def forget(self) -> None:
        """Its client is gone: it begins again with the next."""
        self._inner = None

    async def stop(self) -> None:
        self._stopped = True
        if self._inner is not None:
            with contextlib.suppress(nats.errors.Error):  # a closed connection has ended it already
                await self._inner.unsubscribe()


def too_large(subject: str, body: bytes) -> PayloadTooLarge:
    return PayloadTooLarge(f"A message of {len(body) / 1e6:.1f} MB on {subject} is more than NATS takes.")


def words(error: BaseException) -> str:
    return str(error) or type(error).__name__


def _without_secrets(url: str) -> str:
    return re.sub(r"//[^/@]*@", "//", url)
