"""The sweep: what should be on the bus and is not goes back to the queue. Runs every second and at start."""

from __future__ import annotations

import time

from limner import logs
from limner.bus.port import Bus
from limner.db import history as history_rows
from limner.db import jobs as rows
from limner.db import release as release_rows
from limner.db.release import Out
from limner.db.session import Connection, Database
from limner.errors import Unavailable
from limner.jobs.machine import TokenMissing
from limner.jobs.model import State
from limner.services.life import Change, Life
from limner.services.release import Release

log = logs.get("limner.dispatch.sweep")

GRACE_SECONDS = 2.0
"""A token may take this long from the commit to the bus."""

HOUSEKEEPING_SECONDS = 60.0


class Sweep:
    def __init__(self, db: Database, bus: Bus, release: Release) -> None:
        self._db = db
        self._bus = bus
        self._release = release
        self._life = Life(bus, release)
        self._last_housekeeping = 0.0

    async def run_once(self) -> int:
        """Puts back the jobs whose tokens are gone; how many. Raises Unavailable when the bus cannot tell."""
        pool = self._release.pool
        out = await self._db.read(lambda connection: release_rows.out_for(connection, pool, GRACE_SECONDS))
        pending = await self._bus.pending(pool)  # asked after SQL: a job that ended in between is seen below
        await self._bus.ensure_lanes(pool, sorted(set(pending.values())))
        lost = [job for job in out if job.id not in pending]
        for job in lost:
            await self._put_back(job)
        for job in out:
            if job.state == State.CANCELING and job.worker and job.token:  # the first interrupt may have been lost
                await self._life.live.interrupt(job.worker, job.id, job.token)
        self._release.live_workers(sum(beat.pool == pool for beat in await self._bus.workers()))
        await self._keep_house(pool)
        return len(lost)

    async def _put_back(self, job: Out) -> None:
        def work(connection: Connection) -> Change | None:
            held = rows.hold(connection, job.id)
            if held is None or held.job.epoch != job.epoch:
                return None
            if (held.now - held.changed_at).total_seconds() < GRACE_SECONDS:
                return None
            return self._life.change(connection, held, TokenMissing(now=held.now))

        change = await self._db.write(work)
        if change is not None and change.job is not change.before:
            log.warning(
                "a job's token was gone", job_id=job.id, was=change.before.state.value, now=change.job.state.value
            )
            await self._life.announce(change)

    async def _keep_house(self, pool: str) -> None:
        if time.monotonic() - self._last_housekeeping < HOUSEKEEPING_SECONDS:
            return
        self._last_housekeeping = time.monotonic()

        def work(connection: Connection) -> None:
            release_rows.raise_the_passed(connection, pool)
            history_rows.forget_the_oldest(connection)

        await self._db.write(work)


async def sweep_quietly(sweep: Sweep) -> None:
    """One round; what is not reachable now is tried again in the next."""
    try:
        await sweep.run_once()
    except Unavailable as error:
        log.warning("no sweep this time", error=error.message)
