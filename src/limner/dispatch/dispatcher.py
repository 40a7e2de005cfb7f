"""All of dispatch in one gateway: the releaser, the sweep, the collector and the answers to workers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from limner import logs
from limner.blobs.port import BlobStore
from limner.bus.port import Bus, Subscription
from limner.db.session import Database
from limner.dispatch.collect import COLLECT_SECONDS, Collector
from limner.dispatch.releaser import RELEASE_SECONDS, release_quietly
from limner.dispatch.rpc import serve_workers
from limner.dispatch.sweep import Sweep
from limner.services.attempts import Attempts
from limner.services.catalogues import Catalogues
from limner.services.ending import end
from limner.services.release import Release

log = logs.get("limner.dispatch")

SWEEP_SECONDS = 1.0


class Dispatcher:
    """Any number of gateways may run one each: every step is a compare-and-set."""

    def __init__(
        self,
        db: Database,
        bus: Bus,
        release: Release,
        attempts: Attempts,
        catalogues: Catalogues,
        *,
        blobs: BlobStore | None = None,
    ) -> None:
        """blobs: the store to be kept clear of what is needed no more; without it nothing there is touched."""
        self._bus = bus
        self._release = release
        self._attempts = attempts
        self._catalogues = catalogues
        self._sweep = Sweep(db, bus, release)
        self._collector = None if blobs is None else Collector(db, blobs)
        self._subscriptions: list[Subscription] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Begins to answer workers and to sweep. NATS need not be up: it goes on once it is."""
        self._subscriptions = await serve_workers(self._bus, self._attempts, self._catalogues)
        self._tasks = [
            asyncio.create_task(_every(SWEEP_SECONDS, self._sweep.run), name="limner-sweep"),
            asyncio.create_task(
                _every(RELEASE_SECONDS, lambda: release_quietly(self._release)), name="limner-releaser"
            ),
        ]
        if self._collector is not None:
            self._tasks.append(
                asyncio.create_task(_every(COLLECT_SECONDS, self._collector.run), name="limner-collector")
            )

    async def stop(self) -> None:
        """Ends at the next step; what is on its way is finished by another gateway, or by the next start."""
        for subscription in self._subscriptions:
            await subscription.stop()
        await end(self._tasks)
        self._subscriptions, self._tasks = [], []


async def _every(seconds: float, step: Callable[[], Awaitable[None]]) -> None:
    """At once, and then again after each pause. A fault in one round must not end the rounds."""
    while True:
        try:
            await step()
        except Exception:
            log.exception("a round of dispatch failed")
        await asyncio.sleep(seconds)
