"""How waiting jobs get their tokens: chosen inside a transaction, published in that order after its commit."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass

from limner import logs
from limner.bus.messages import Token
from limner.bus.port import Bus
from limner.db import release as rows
from limner.db.release import Released
from limner.db.session import Connection, Database
from limner.errors import Unavailable
from limner.services.ending import end
from limner.services.roster import Roster

log = logs.get("limner.services.release")

SMALLEST_WINDOW = 8
RETRY_SECONDS = 0.25
FAREWELL_SECONDS = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Errand:
    job: Released
    take_back: bool


class Release:
    """Keeps at most `window` tokens of a pool out. One order: that of the commits, held by a single sending task.

    A token that cannot be published is tried again until it can; meanwhile nothing passes it. Taking one back is
    tried once, since a claim with it would be refused anyway.
    """

    def __init__(self, db: Database, bus: Bus, *, pool: str = "default") -> None:
        self.pool = pool
        self.window = SMALLEST_WINDOW
        self.workers = 0
        self.roster = Roster()
        self._db = db
        self._bus = bus
        self._errands: deque[_Errand] = deque()
        self._errands_of: Counter[str] = Counter()  # of each job that has any
        self._task: asyncio.Task[None] | None = None

    def live_workers(self, count: int) -> None:
        """How many the pool has now. Two tokens for each, so that none waits for the releaser between two jobs."""
        self.workers = count
        self.window = max(SMALLEST_WINDOW, 2 * count)

    def next_jobs(self, connection: Connection) -> list[Released]:
        """Inside a transaction: releases what there is room for. Hand the result to `publish` after the commit."""
        free = rows.room(connection, self.pool, self.window)
        return rows.release(connection, self.pool, free.free) if free.waiting else []

    async def run_once(self) -> None:
        """Releases what there is room for now: jobs whose time has come, and room that another gateway made."""
        free = await self._db.read(lambda connection: rows.room(connection, self.pool, self.window))
        if free.waiting and free.free:
            self.publish(await self._db.write(self.next_jobs))

    def publish(self, released: Sequence[Released]) -> None:
        """Sends tokens, in this order and after all handed in before. Await nothing between commit and call."""
        self._enqueue(released, take_back=False)

    def take_back(self, recalled: Sequence[Released]) -> None:
        """Purges tokens, in one order with what is published."""
        self._enqueue(recalled, take_back=True)

    def sending(self) -> set[str]:
        """Ids of jobs whose tokens are on their way to the bus."""
        return {errand.job.id for errand in self._errands if not errand.take_back}

    async def stop(self) -> None:
        """Sends what is on its way, and ends. What the bus does not take now is put back by the next sweep."""
        if self._task is not None:
            if self._bus.connected:
                await asyncio.wait({self._task}, timeout=FAREWELL_SECONDS)
            await end([self._task])
            self._task = None

    def _enqueue(self, released: Sequence[Released], *, take_back: bool) -> None:
        self._errands.extend(_Errand(job=job, take_back=take_back) for job in released)
        self._errands_of.update(job.id for job in released)
        if self._errands and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._send_all(), name="limner-release")

    async def _send_all(self) -> None:
        waits = False
        while self._errands:
            errand = self._errands[0]
            try:
                if self._errands_of[errand.job.id] == 1:  # a later errand for the same job makes this one needless
                    await self._send(errand)
                    waits = False
            except Unavailable as error:
                if not errand.take_back:
                    if not waits:
                        log.warning("tokens wait for the bus", job_id=errand.job.id, error=error.message)
                    waits = True
                    await asyncio.sleep(RETRY_SECONDS)
                    continue
                log.warning("a token could not be taken back", job_id=errand.job.id, error=error.message)
            except Exception:  # the sweep puts this job back; the others must not wait for ever
                log.exception("a token could not be sent", job_id=errand.job.id)
            self._errands.popleft()
            self._errands_of[errand.job.id] -= 1
            if not self._errands_of[errand.job.id]:
                del self._errands_of[errand.job.id]

    async def _send(self, errand: _Errand) -> None:
        job = errand.job
        if errand.take_back:
            await self._bus.purge(job.pool, job.lane, job.id)
        else:
            await self._bus.publish_token(job.pool, job.lane, Token(id=job.id, epoch=job.epoch))
