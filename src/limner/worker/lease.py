"""Keeps the lease of a token alive while its job runs, and notices when it may have been lost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from limner import logs
from limner.bus.port import Bus, Delivery
from limner.errors import Unavailable

log = logs.get("lease")

BEAT_SECONDS = 5.0
LEASE_SECONDS = 15.0  # the consumers' ack_wait: after so long without a beat another worker gets the token


class Lease:
    """One task for a worker's whole life beats for whichever delivery is held.

    After a silence as long as the lease itself, another worker may have the job. `on_doubt` is asked to find out.
    """

    def __init__(
        self,
        bus: Bus,
        *,
        on_doubt: Callable[[Delivery], Awaitable[None]],
        beat_seconds: float = BEAT_SECONDS,
        lease_seconds: float = LEASE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._bus = bus
        self._on_doubt = on_doubt
        self._beat = beat_seconds
        self._lease = lease_seconds
        self._clock = clock
        self._held: Delivery | None = None
        self._last_beat = 0.0

    @contextmanager
    def holding(self, delivery: Delivery) -> Iterator[None]:
        self._held, self._last_beat = delivery, self._clock()
        try:
            yield
        finally:
            self._held = None

    async def run(self) -> None:
        """Beats until it is canceled."""
        while True:
            await asyncio.sleep(self._beat)
            if self._held is not None:
                await self.beat(self._held)

    async def beat(self, delivery: Delivery) -> None:
        """One sign of life, if the bus is there to take it."""
        if not self._bus.connected:
            return
        silence = self._clock() - self._last_beat
        try:
            await delivery.in_progress()
        except Unavailable:
            return
        self._last_beat = self._clock()
        if silence >= self._lease:
            log.warning("no sign of life could be sent for longer than the lease", silence_seconds=round(silence, 1))
            await self._on_doubt(delivery)
