"""Whether another living worker bears the same id: of two the newcomer finds out, and goes."""

from __future__ import annotations

import asyncio
import secrets
import time

from limner import logs
from limner.bus.port import Bus
from limner.errors import Misconfigured, Unavailable
from limner.worker.heartbeat import EVERY_SECONDS

log = logs.get("worker")

LOOK_SECONDS = 0.5
WATCH_SECONDS = EVERY_SECONDS + 2.0  # a living worker shows itself within this time


class Identity:
    """A worker shows its `incarnation`, which differs for each start, in its heartbeats.

    One that was shown before this worker came is either what this worker was before it was started again, and never
    comes back, or belongs to somebody who lives, and overwrites ours with the next beat.
    """

    def __init__(self, bus: Bus, worker: str) -> None:
        self.incarnation = secrets.token_hex(8)
        self._bus = bus
        self._worker = worker
        self._looked = asyncio.Event()
        self._alone = asyncio.Event()

    async def looked(self) -> None:
        """Until it is known who was here before: not earlier may this worker show itself."""
        await self._looked.wait()

    @property
    def is_alone(self) -> bool:
        return self._alone.is_set()

    async def alone(self) -> None:
        """Until it is certain that nobody else bears this id; that may never be."""
        await self._alone.wait()

    async def run(self) -> None:
        """Looks who was here before, and whether it comes again. Raises Misconfigured when it does."""
        before = await self._shown()
        self._looked.set()
        end: float | None = None  # its time begins once we have been shown
        while before and (end is None or time.monotonic() < end):
            await asyncio.sleep(LOOK_SECONDS)
            shown = await self._shown()
            if shown == self.incarnation:
                end = end or time.monotonic() + WATCH_SECONDS
            elif shown == before and end is not None:
                raise Misconfigured(
                    f"another worker runs as {self._worker!r}: each needs a LIMNER_WORKER_ID of its own"
                )
        self._alone.set()

    async def _shown(self) -> str:
        """The incarnation under this worker's id, "" for none; asked until the bus answers."""
        while True:
            try:
                beats = await self._bus.workers()
            except Unavailable as error:
                log.debug("the workers' heartbeats could not be read", error=error.message)
                await asyncio.sleep(LOOK_SECONDS)
                continue
            return next((beat.incarnation for beat in beats if beat.worker == self._worker), "")
