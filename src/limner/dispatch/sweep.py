"""The sweep: what should be on the bus and is not goes back to the queue. Runs every second and at start."""

from __future__ import annotations

import time

from limner import logs
from limner.bus.port import Bus
from limner.db import catalogues as catalogue_rows
from limner.db import files as file_rows
from limner.db import history as history_rows
from limner.db import jobs as rows
from limner.db import release as release_rows
from limner.db.jobs import Held
from limner.db.release import Out, Released
from limner.db.session import Connection, Database
from limner.errors import Unavailable
from limner.jobs.events import TokenMissing
from limner.jobs.model import State
from limner.services.life import Change, Life
from limner.services.release import Release

log = logs.get("limner.dispatch.sweep")

GRACE_SECONDS = 2.0
"""A token of another gateway may take this long from the commit to the bus."""

YOUNGEST_SECONDS = 1.5
"""Where one job is put back, those of nearly its age go with it whose tokens are gone too: put back one round later
they would be overtaken by those that were behind them."""

HOUSEKEEPING_SECONDS = 60.0


class Sweep:
    def __init__(self, db: Database, bus: Bus, release: Release) -> None:
        self._db = db
        self._bus = bus
        self._release = release
        self._life = Life(bus, release)
        self._last_housekeeping = 0.0
        self._could = True

    async def run(self) -> None:
        """One round; what is not reachable now is tried again in the next. Tells of an outage once."""
        try:
            await self.run_once()
        except Unavailable as error:
            if self._could:
                log.warning("no sweep until all are back", error=error.message)
            self._could = False
        else:
            self._could = True

    async def run_once(self) -> int:
        """Puts back the jobs whose tokens are gone; how many. Raises Unavailable when the bus cannot tell."""
        pool = self._release.pool
        out = await self._db.read(lambda connection: release_rows.out_for(connection, pool, YOUNGEST_SECONDS))
        sending = self._release.sending()  # looked at before the bus: one that is sent in between is there by then
        pending = await self._bus.pending(pool)  # asked after SQL: a job that ended in between is seen below
        await self._bus.ensure_lanes(pool, sorted(set(pending.values())))
        lost = [job for job in out if job.id not in pending and job.id not in sending]
        overdue = any(job.age >= GRACE_SECONDS for job in lost)
        if overdue:
            await self._put_back(lost)
        for job in out:
            if job.state == State.CANCELING and job.worker and job.token:  # the first interrupt may have been lost
                await self._life.live.interrupt(job.worker, job.id, job.token)
        beats = [beat for beat in await self._bus.workers() if beat.pool == pool]
        self._release.live_workers(len(beats))
        self._release.roster.hear(beats, time.monotonic())
        await self._keep_house(pool)
        return len(lost) if overdue else 0

    async def _put_back(self, lost: list[Out]) -> None:
        """All at once, so that they are released again in their order."""

        def work(connection: Connection) -> tuple[list[Change], list[Released]]:
            held = [(job, rows.hold(connection, job.id)) for job in lost]
            changes = [
                self._life.change(connection, now, TokenMissing(now=now.now), and_release=False)
                for job, now in held
                if now is not None and _is_still_so(job, now)
            ]
            return changes, self._release.next_jobs(connection)

        changes, released = await self._db.write(work)
        self._release.publish(released)
        for change in changes:
            was, job = change.before, change.job
            log.warning("a job's token was gone", job_id=job.id, was=was.state.value, now=job.state.value)
            await self._life.announce(change)

    async def _keep_house(self, pool: str) -> None:
        if time.monotonic() - self._last_housekeeping < HOUSEKEEPING_SECONDS:
            return
        self._last_housekeeping = time.monotonic()

        def work(connection: Connection) -> None:
            release_rows.raise_the_passed(connection, pool)
            history_rows.forget_the_oldest(connection)
            file_rows.drop_of_ended(connection)
            catalogue_rows.forget_unseen(connection)

        await self._db.write(work)


def _is_still_so(found: Out, now: Held) -> bool:
    """Whether nothing has happened to the job since it was found, and it is old enough."""
    unchanged_for = (now.now - now.changed_at).total_seconds()
    return now.job.epoch == found.epoch and not now.job.state.terminal and unchanged_for >= YOUNGEST_SECONDS
