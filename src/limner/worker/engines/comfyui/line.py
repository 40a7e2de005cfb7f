"""The connection for events that a worker keeps to its instance, mended whenever it breaks.

A real ComfyUI forgets a client as soon as any socket of that client's id closes, also an older one: the newer socket
stays open and hears nothing. So an id is used once; but a prompt's events go to the id that it was submitted under,
and a socket that breaks during a run has to come back under the same one. `shaky` says so: what is silent then may be
deaf, and has to be looked after.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from limner import logs
from limner.worker.engines.comfyui import tasks
from limner.worker.engines.comfyui.address import Address
from limner.worker.engines.comfyui.client import Unreachable
from limner.worker.engines.comfyui.frames import Message
from limner.worker.engines.comfyui.socket import EventSocket, Inbox, new_client_id

log = logs.get("comfyui")

PAUSES_SECONDS = (0.1, 0.3, 1.0, 2.0)
LASTING_SECONDS = 10.0  # a socket that breaks before has failed: some proxies open one only to close it


class Line:
    """`begin` before a run, `end` after it; between them it comes back by itself under the same id."""

    def __init__(self, address: Address, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.inbox = Inbox()
        self.shaky = False  # whether something may have been missed since the run began
        self._address = address
        self._clock = clock
        self._socket: EventSocket | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._changing = asyncio.Lock()  # a run may begin while an idle instance is looked at

    @property
    def up(self) -> bool:
        return self._socket is not None and not self._socket.broken

    async def open(self) -> None:
        """Connects under a new id, if there is no connection that is as good. Raises Unreachable.

        Does nothing during a run, which keeps its own.
        """
        async with self._changing:
            if self._keeper is None:
                await self._renew()

    async def begin(self, client_id: str = "") -> str:
        """The id under which to submit. With `client_id`: that of a prompt that is there already.

        What cannot be opened now is tried again and again during the run.
        """
        await self._dismiss_keeper()
        async with self._changing:
            try:
                await (self._open(client_id) if client_id else self._renew())
            except Unreachable as error:
                log.debug("a run begins without events", error=error.message)
                self._socket = EventSocket(self._address, client_id or new_client_id(), self.inbox)
            self.inbox.clear()
            self.shaky = bool(client_id) or not self.up
            socket = self._socket
            assert socket is not None
            self._keeper = asyncio.create_task(self._keep(socket.client_id))
        return socket.client_id

    async def next(self, seconds: float) -> Message | None:
        """The next message; None where none comes in time."""
        return await self.inbox.next(seconds)

    async def rejoin(self) -> None:
        """Says goodbye and comes back, for the case that the instance does not know this socket any more."""
        if self._socket is not None:
            await self._socket.close()  # the keeper opens the next one

    async def end(self) -> None:
        """The run is over. An id that a socket had to come back under is not used again."""
        await self._dismiss_keeper()
        if self.shaky or not self.up:
            await self._close_socket()

    async def close(self) -> None:
        await self._dismiss_keeper()
        await self._close_socket()

    async def _keep(self, client_id: str) -> None:
        """Opens the socket again and again, whenever it has ended."""
        failures = 0
        while True:
            if self._socket is not None and self.up:
                began = self._clock()
                await self._socket.ended()
                failures = 0 if self._clock() - began >= LASTING_SECONDS else failures + 1
            self.shaky = True
            await asyncio.sleep(PAUSES_SECONDS[min(max(failures - 1, 0), len(PAUSES_SECONDS) - 1)])
            try:
                await self._open(client_id)
            except Unreachable as error:
                failures += 1
                log.debug("the socket does not come back", error=error.message)

    async def _renew(self) -> None:
        if not self.up or self.shaky:
            await self._open(new_client_id())
            self.shaky = False

    async def _open(self, client_id: str) -> None:
        await self._close_socket()
        self._socket = EventSocket(self._address, client_id, self.inbox)
        await self._socket.open()

    async def _close_socket(self) -> None:
        socket, self._socket = self._socket, None
        if socket is not None:
            await socket.close()

    async def _dismiss_keeper(self) -> None:
        keeper, self._keeper = self._keeper, None
        await tasks.end(keeper)
