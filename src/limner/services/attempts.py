"""What workers say about their attempts: claim, resume, names for files, done. jobs/machine.py decides, this carries
it out.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from limner.blobs.keys import attempt_prefix
from limner.bus.messages import Claim, Claimed, Done, Keep, Reserve, Reserved, Resume, Resumed, Settled
from limner.bus.port import Bus
from limner.db import files as file_rows
from limner.db import jobs as rows
from limner.db.session import Connection, Database
from limner.errors import BadName
from limner.jobs.events import Accepted, ClaimAsked, NobodyCame, Refused, Reported
from limner.jobs.model import Job
from limner.services import keeping, reserving
from limner.services.keeping import Starts
from limner.services.life import Change, Life
from limner.services.names import folded
from limner.services.presence import Presence
from limner.services.release import Release

ExistingNumber = Callable[[str, str], int]
"""(subfolder, prefix) -> the largest number among files `PREFIX_NNNNN_...` in the readable output folder, 0 if none."""

NO_SUCH_JOB = "there is no such job"
LEASE_LOST = "the lease was lost: another attempt has begun, or this one has ended"
UNFIT_PATIENCE_SECONDS = 60.0
"""How long a job waits for a worker to come that can run it, where none of those that are there can."""


class Attempts:
    """Answers workers. Each method is one transaction and may be repeated: the same question gets the same answer."""

    def __init__(
        self,
        db: Database,
        bus: Bus,
        release: Release,
        presence: Presence,
        *,
        existing_number: ExistingNumber | None = None,
    ) -> None:
        self._db = db
        self._bus = bus
        self._pool = release.pool
        self._life = Life(bus, release)
        self._presence = presence
        self._existing_number = existing_number

    async def claim(self, asked: Claim) -> Claimed:
        """The job itself, if the token that the worker holds is still good for it."""

        waited = 0.0

        def work(connection: Connection) -> Change | None:
            nonlocal waited
            held = rows.hold(connection, asked.id, with_request=True)
            if held is None:
                return None
            waited = (held.now - held.changed_at).total_seconds()
            event = ClaimAsked(
                epoch=asked.epoch,
                worker=asked.worker,
                delivery=asked.delivery,
                new_token=secrets.token_hex(8),
                now=held.now,
                catalogue=asked.catalogue,
                resumed=asked.resumed,
            )
            return self._life.change(connection, held, event)

        change = await self._db.write(work, durable=False)  # a claim undone is a token delivered again
        if change is None:
            return Claimed(ok=False, reason=NO_SUCH_JOB)
        await self._life.announce(change)
        if isinstance(change.answer, Refused):
            if change.answer.elsewhere and waited >= UNFIT_PATIENCE_SECONDS:
                await self._look_for_another(asked.id)
            return Claimed(ok=False, reason=change.answer.reason, elsewhere=change.answer.elsewhere)
        return self._claimed(change.job)

    async def resume(self, asked: Resume) -> Resumed:
        """What this worker was running when it ended, for it to claim as resumed."""
        had = await self._db.read(lambda connection: rows.had_by(connection, self._pool, asked.worker))
        jobs = [{"id": job.id, "epoch": job.epoch, "delivery": job.delivery} for job in had if job.delivery]
        return Resumed(ok=True, jobs=jobs)

    async def _look_for_another(self, job_id: str) -> None:
        """Ends a job that has waited in vain for a worker that can run it."""
        workers = await self._catalogues()

        def work(connection: Connection) -> Change | None:
            held = rows.hold(connection, job_id)
            if held is None or (held.now - held.changed_at).total_seconds() < UNFIT_PATIENCE_SECONDS:
                return None
            return self._life.change(connection, held, NobodyCame(now=held.now, workers=workers))

        change = await self._db.write(work)
        if change is not None:
            await self._life.announce(change)

    async def _catalogues(self) -> dict[str, str]:
        """What each of the pool's live workers can run, as a digest; but for those that take no more jobs."""
        beats = [beat for beat in await self._bus.workers() if beat.pool == self._pool]
        return self._life.release.roster.catalogues(beats, time.monotonic())

    def _claimed(self, job: Job) -> Claimed:
        token = job.token or ""
        return Claimed(
            ok=True,
            token=token,
            attempt=job.attempts,
            tenant=job.tenant,
            prompt_id=job.prompt_id,
            client_id=job.client_id,
            workflow=job.workflow,
            outputs=list(job.outputs),
            extra_data=job.extra_data,
            inputs=[asdict(file) for file in job.inputs],
            key_prefix=attempt_prefix(job.tenant, job.id, token, job.created_at),
            watched=self._presence.watching(job.tenant, job.client_id),
        )

    async def done(self, told: Done) -> Settled:
        """Commits the end of an attempt with its files, while it is still the worker's."""

        def work(connection: Connection) -> Change | None:
            held = rows.hold(connection, told.id)
            if held is None:
                return None
            event = Reported(
                token=told.token,
                outcome=told.outcome,
                now=held.now,
                result={"outputs": told.outputs, "meta": told.meta},
                messages=tuple((str(name), data) for name, data in told.messages),
                error=told.error,
                models=tuple(told.models),
                jitter=random.random(),
                catalogue=told.catalogue,
                workers=workers,
            )
            return self._life.change(connection, held, event, files=written)

        workers = await self._catalogues() if told.outcome == "unfit" else {}
        written = [_written(file) for file in told.files if file.get("type", "output") == "output"]
        change = await self._db.write(work)
        if change is None:
            return Settled(ok=False, reason=NO_SUCH_JOB)
        await self._life.announce(change, last_seq=told.last_seq)
        if isinstance(change.answer, Refused):
            return Settled(ok=False, reason=change.answer.reason)
        return Settled(ok=isinstance(change.answer, Accepted))

    async def reserve(self, asked: Reserve) -> Reserved:
        """Names for new output files, counted per (tenant, folder, prefix); never one that is in use.

        Another attempt of the same job gets the same names for the same call.
        """
        fault = reserving.fault_of(asked)
        if fault:
            return Reserved(ok=False, reason=fault)
        prefix = (asked.subfolder, asked.prefix)

        def name(connection: Connection, job: Job, starts: Starts) -> list[dict[str, str]]:
            reserved = reserving.reserve(connection, job, asked, starts.get(prefix, 0))
            return [{"filename": row.filename, "subfolder": row.subfolder, "key": row.key} for row in reserved]

        return await self._reserved(asked.id, asked.token, {prefix}, name)

    async def keep(self, asked: Keep) -> Reserved:
        """The names of files that an engine has named itself, reserved for this attempt (services/keeping.py)."""
        if not 0 < len(asked.files) <= reserving.MOST_NAMES:
            return Reserved(ok=False, reason=f"{len(asked.files)} files, but there must be 1 to {reserving.MOST_NAMES}")
        try:
            wishes = keeping.wishes(asked.files)
        except BadName as error:
            return Reserved(ok=False, reason=error.message)
        numbered = {(wish.subfolder, wish.numbered[0]) for wish in wishes if wish.numbered is not None}

        def name(connection: Connection, job: Job, starts: Starts) -> list[dict[str, str]]:
            return [keeping.keep(connection, job, asked.token, wish, starts) for wish in wishes]

        return await self._reserved(asked.id, asked.token, numbered, name)

    async def _reserved(
        self,
        job_id: str,
        token: str,
        prefixes: set[tuple[str, str]],
        name: Callable[[Connection, Job, Starts], list[dict[str, str]]],
    ) -> Reserved:
        """Names, given in one transaction while the attempt holds the job.

        The output folder is looked through only for prefixes that SQL has not counted yet; that takes a second one.
        """

        def work(connection: Connection, starts: Starts | None) -> list[dict[str, str]] | _Uncounted | str:
            held = rows.hold(connection, job_id)
            if held is None:
                return NO_SUCH_JOB
            if held.job.state.terminal or held.job.token != token:
                return LEASE_LOST
            if starts is None and (new := self._uncounted(connection, held.job.tenant, prefixes)):
                return _Uncounted(new)
            return name(connection, held.job, starts or {})

        # Nobody knows the names before `done` has made them durable.
        names = await self._db.write(lambda connection: work(connection, None), durable=False)
        if isinstance(names, _Uncounted):
            starts = await asyncio.to_thread(self._starts, names.prefixes)
            names = await self._db.write(lambda connection: work(connection, starts), durable=False)
        return Reserved(ok=True, names=names) if isinstance(names, list) else Reserved(ok=False, reason=str(names))

    def _uncounted(self, connection: Connection, tenant: str, prefixes: set[tuple[str, str]]) -> list[tuple[str, str]]:
        if self._existing_number is None:
            return []
        return [
            (subfolder, prefix)
            for subfolder, prefix in sorted(prefixes)
            if file_rows.counter(connection, tenant, folded(subfolder), folded(prefix)) is None
        ]

    def _starts(self, prefixes: list[tuple[str, str]]) -> Starts:
        existing = self._existing_number
        return {each: existing(*each) for each in prefixes} if existing is not None else {}


@dataclass(frozen=True, slots=True)
class _Uncounted:
    """Prefixes under which nobody has counted yet."""

    prefixes: list[tuple[str, str]]


def _written(file: dict[str, Any]) -> dict[str, Any]:
    """A reported file as a row; a member that is absent is a bad message (KeyError)."""
    return {name: file[name] for name in ("key", "subfolder", "filename", "size_bytes", "sha256")}
