"""The WebSocket over which a ComfyUI tells how a prompt goes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from base64 import b64encode
from collections import deque
from uuid import uuid4

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from limner import logs
from limner.worker.engines.comfyui import tasks
from limner.worker.engines.comfyui.address import Address
from limner.worker.engines.comfyui.client import Unreachable
from limner.worker.engines.comfyui.frames import Gap, Message, Pictured, Said, parse

log = logs.get("comfyui")
wire_log = logging.getLogger("websockets.client.comfyui")
wire_log.setLevel(logging.INFO)  # at DEBUG it tells every header, and so the password

OPEN_SECONDS = 10.0
CLOSE_SECONDS = 2.0
PING_SECONDS = 20.0  # keeps what stands between from closing an idle connection
MAX_FRAME_BYTES = 256 * 1024 * 1024
BACKLOG = 500  # beyond, what a later message says as well is not kept ...
BACKLOG_WITH_PICTURES = 20  # ... and no preview
HELLO = '{"type": "feature_flags", "data": {"supports_preview_metadata": true}}'
REPEATED = frozenset({"progress", "progress_state", "status"})


def new_client_id() -> str:
    return uuid4().hex


class Inbox:
    """What sockets have heard and nobody has read yet. One inbox serves a worker's sockets one after the other."""

    def __init__(self) -> None:
        self._messages: deque[Message] = deque()
        self._news = asyncio.Event()

    def put(self, message: Message) -> None:
        """Takes a message in, but for what a reader that lags far behind will hear again."""
        most = BACKLOG_WITH_PICTURES if isinstance(message, Pictured) else BACKLOG
        if len(self._messages) >= most and _is_repeated(message):
            return
        self._messages.append(message)
        self._news.set()

    def poke(self) -> None:
        """Ends a wait."""
        self._news.set()

    async def next(self, seconds: float) -> Message | None:
        """The next message; None where none comes in this time, or `poke` was called."""
        if not self._messages:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._news.wait()
        self._news.clear()
        return self._messages.popleft() if self._messages else None

    def clear(self) -> None:
        self._messages.clear()
        self._news.clear()


class EventSocket:
    """One connection under a client id, read all the time: a ComfyUI waits for its slowest client.

    Once it is open it raises nothing: `broken` tells that it ended, whatever did that.
    """

    def __init__(self, address: Address, client_id: str, inbox: Inbox) -> None:
        self.client_id = client_id
        self._address = address
        self._inbox = inbox
        self._connection: ClientConnection | None = None
        self._reader: asyncio.Task[None] | None = None

    @property
    def broken(self) -> bool:
        """Whether nothing more will come."""
        return self._reader is None or self._reader.done()

    async def open(self) -> None:
        """Connects. Raises Unreachable."""
        try:
            self._connection = await connect(
                self._address.ws(self.client_id),
                additional_headers=_authorization(self._address),
                ssl=ssl.create_default_context() if self._address.secure else None,
                proxy=None,
                compression=None,
                logger=wire_log,
                max_size=MAX_FRAME_BYTES,
                open_timeout=OPEN_SECONDS,
                close_timeout=CLOSE_SECONDS,
                ping_interval=PING_SECONDS,
                ping_timeout=None,  # one that loads a model may be silent for minutes
            )
            await self._connection.send(HELLO)
        except (OSError, WebSocketException, TimeoutError, ValueError, EOFError) as error:
            await self.close()
            what = f"the socket of {self._address.shown} cannot be opened: {error or type(error).__name__}"
            raise Unreachable(what, refused=isinstance(error, ConnectionRefusedError)) from error
        self._reader = asyncio.create_task(self._read(self._connection))

    async def ended(self) -> None:
        """Waits until it is broken."""
        if self._reader is not None:
            await asyncio.wait({self._reader})

    async def close(self) -> None:
        """Says goodbye and waits for the answer a little, so that the other side knows that this client is gone."""
        if self._connection is not None:
            with contextlib.suppress(OSError, WebSocketException, TimeoutError):
                await self._connection.close()
        await tasks.end(self._reader)

    async def _read(self, connection: ClientConnection) -> None:
        try:
            async for raw in connection:
                message = parse(raw)
                if message is not None:
                    self._inbox.put(message)
        except (OSError, WebSocketException) as error:
            log.debug("the socket broke", instance=self._address.shown, error=str(error))
        finally:
            self._inbox.put(Gap())


def _is_repeated(message: Message) -> bool:
    """Whether a later message says all that this one says."""
    return isinstance(message, Pictured) or (isinstance(message, Said) and message.name in REPEATED)


def _authorization(address: Address) -> dict[str, str]:
    if address.auth is None:
        return {}
    return {"Authorization": "Basic " + b64encode(":".join(address.auth).encode()).decode()}
