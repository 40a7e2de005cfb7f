"""Keeps the lease of a token alive while its job runs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from limner import logs
from limner.bus.port import Bus, Delivery
from limner.errors import Unavailable

log = logs.get("lease")

BEAT_SECONDS = 5.0
LEASE_SECONDS = 15.0  # the consumers' ack_wait: after so long without a beat another worker gets the token


class Lease:
    """One task for a worker's whole life beats for whichever delivery is held.

    A lease that ran out does not stop the run: where nobody else took the job, its result is as good as ever, and
    where somebody did, the gateway interrupts this worker, or refuses its report.
    """

    def __init__(
        self, bus: Bus, *, beat_seconds: float = BEAT_SECONDS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._bus = bus
        self._beat = beat_seconds
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
                await self._sign(self._held)

    async def _sign(self, delivery: Delivery) -> None:
        """One sign of life, if the bus is there to take it."""
        if not self._bus.connected:
            return
        try:
            await delivery.in_progress()
        except Unavailable:
            return
        silence, self._last_beat = self._clock() - self._last_beat, self._clock()
        if silence > LEASE_SECONDS:
            log.warning("the lease ran out meanwhile", job_id=delivery.token.id, silence_seconds=round(silence, 1))
