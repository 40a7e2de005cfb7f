"""The WebSocket over which a ComfyUI tells how a prompt goes."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from base64 import b64encode
from collections import deque
from collections.abc import Callable
from uuid import uuid4

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from limner import logs
from limner.worker.engines.comfyui.address import Address
from limner.worker.engines.comfyui.client import Unreachable
from limner.worker.engines.comfyui.frames import Message, Pictured, Said, parse

log = logs.get("comfyui")

OPEN_SECONDS = 10.0
CLOSE_SECONDS = 2.0
PING_SECONDS = 20.0  # keeps what stands between from closing an idle connection
MAX_FRAME_BYTES = 256 * 1024 * 1024
BACKLOG = 500  # beyond, what a later message says as well is not kept
HELLO = '{"type": "feature_flags", "data": {"supports_preview_metadata": true}}'
REPEATED = frozenset({"progress", "progress_state", "status"})


def new_client_id() -> str:
    return uuid4().hex


class EventSocket:
    """One connection under a client id, read all the time: a ComfyUI waits for its slowest client.

    It never raises once it is open: `broken` tells that it ended, whatever did that.
    """

    def __init__(self, address: Address, client_id: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.client_id = client_id
        self.heard = clock()  # when something came last
        self._address = address
        self._clock = clock
        self._connection: ClientConnection | None = None
        self._reader: asyncio.Task[None] | None = None
        self._messages: deque[Message] = deque()
        self._news = asyncio.Event()

    @property
    def broken(self) -> bool:
        """Whether nothing more will come. What came before can still be read."""
        return self._reader is None or self._reader.done()

    async def open(self) -> None:
        """Connects. Raises Unreachable."""
        where = self._address.ws(self.client_id)
        try:
            self._connection = await connect(
                where,
                additional_headers=_authorization(self._address),
                ssl=ssl.create_default_context() if self._address.secure else None,
                proxy=None,
                compression=None,
                max_size=MAX_FRAME_BYTES,
                open_timeout=OPEN_SECONDS,
                close_timeout=CLOSE_SECONDS,
                ping_interval=PING_SECONDS,
                ping_timeout=None,  # one that loads a model may be silent for minutes; polling knows better
            )
            await self._connection.send(HELLO)
        except (OSError, WebSocketException, TimeoutError, ValueError) as error:
            await self.close()
            refused = isinstance(error, ConnectionRefusedError)
            raise Unreachable(
                f"the socket of {self._address.shown} cannot be opened: {error}", refused=refused
            ) from error
        self.heard = self._clock()
        self._reader = asyncio.create_task(self._read(self._connection))

    async def next(self, seconds: float) -> Message | None:
        """The next message; None where none comes in this time, or the connection is broken and all is read."""
        if not self._messages and not self.broken and seconds > 0:
            self._news.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._news.wait()
        return self._messages.popleft() if self._messages else None

    def clear(self) -> None:
        """Forgets what has come so far."""
        self._messages.clear()

    async def close(self) -> None:
        """Says goodbye and waits for the answer a little, so that the other side knows that this client is gone."""
        if self._connection is not None:
            with contextlib.suppress(OSError, WebSocketException, TimeoutError):
                await self._connection.close()
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.wait({self._reader})

    async def _read(self, connection: ClientConnection) -> None:
        try:
            async for raw in connection:
                self.heard = self._clock()
                message = parse(raw)
                if message is not None and not self._is_too_much(message):
                    self._messages.append(message)
                    self._news.set()
        except (OSError, WebSocketException) as error:
            log.debug("the socket broke", instance=self._address.shown, error=str(error))
        finally:
            self._news.set()

    def _is_too_much(self, message: Message) -> bool:
        if len(self._messages) < BACKLOG:
            return False
        return isinstance(message, Pictured) or (isinstance(message, Said) and message.name in REPEATED)


def _authorization(address: Address) -> dict[str, str]:
    if address.auth is None:
        return {}
    return {"Authorization": "Basic " + b64encode(":".join(address.auth).encode()).decode()}
