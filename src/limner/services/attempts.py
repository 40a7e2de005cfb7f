"""What workers say about their attempts: claim, resume, names for files, done. jobs/machine.py decides, this carries
it out.
"""

from __future__ import annotations

import asyncio
import random
import re
import secrets
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

from limner.blobs.keys import attempt_prefix, output_key
from limner.bus.messages import Claim, Claimed, Done, Keep, Reserve, Reserved, Resume, Resumed, Settled
from limner.bus.port import Bus
from limner.db import files as file_rows
from limner.db import jobs as rows
from limner.db.files import FileRow
from limner.db.session import Connection, Database
from limner.errors import BadName
from limner.jobs.events import Accepted, ClaimAsked, NobodyCame, Refused, Reported
from limner.jobs.model import Job
from limner.services import keeping
from limner.services.life import Change, Life
from limner.services.names import filename_of, folded, subfolder_of
from limner.services.presence import Presence
from limner.services.release import Release

ExistingNumber = Callable[[str, str], int]
"""(subfolder, prefix) -> the largest number among files `PREFIX_NNNNN_...` in the readable output folder, 0 if none."""

NO_SUCH_JOB = "there is no such job"
LEASE_LOST = "the lease was lost: another attempt has begun, or this one has ended"
MOST_NAMES = 10_000
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

        def work(connection: Connection) -> Change | None:
            held = rows.hold(connection, asked.id, with_request=True)
            if held is None:
                return None
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
            if change.answer.elsewhere:
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
        beats = [beat for beat in await self._bus.workers() if beat.pool == self._pool and beat.state != "draining"]
        return {beat.worker: beat.catalogue for beat in beats}

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
        fault = _fault(asked)
        if fault:
            return Reserved(ok=False, reason=fault)
        start = await self._last_number_in_use(asked.id, asked.subfolder, asked.prefix)

        def work(connection: Connection) -> list[FileRow] | str:
            held = rows.hold(connection, asked.id)
            if held is None:
                return NO_SUCH_JOB
            if held.job.state.terminal or held.job.token != asked.token:
                return LEASE_LOST
            return _reserve(connection, held.job, asked, start)

        names = await self._db.write(work, durable=False)  # nobody knows the names before `done` has made them durable
        if isinstance(names, str):
            return Reserved(ok=False, reason=names)
        return Reserved(
            ok=True, names=[{"filename": n.filename, "subfolder": n.subfolder, "key": n.key} for n in names]
        )

    async def keep(self, asked: Keep) -> Reserved:
        """The names of files that an engine has named itself, reserved for this attempt (services/keeping.py)."""
        if not 0 < len(asked.files) <= MOST_NAMES:
            return Reserved(ok=False, reason=f"{len(asked.files)} files, but there must be 1 to {MOST_NAMES}")
        try:
            wishes = keeping.wishes(asked.files)
        except BadName as error:
            return Reserved(ok=False, reason=error.message)
        numbered = {(wish.subfolder, wish.numbered[0]) for wish in wishes if wish.numbered is not None}
        starts = {each: await self._last_number_in_use(asked.id, *each) for each in sorted(numbered)}

        def work(connection: Connection) -> list[dict[str, str]] | str:
            held = rows.hold(connection, asked.id)
            if held is None:
                return NO_SUCH_JOB
            if held.job.state.terminal or held.job.token != asked.token:
                return LEASE_LOST
            return [keeping.keep(connection, held.job, asked.token, wish, starts) for wish in wishes]

        names = await self._db.write(work, durable=False)
        return Reserved(ok=False, reason=names) if isinstance(names, str) else Reserved(ok=True, names=names)

    async def _last_number_in_use(self, job_id: str, subfolder: str, prefix: str) -> int:
        """Looked up in the output folder the first time only; from then on SQL counts."""
        if self._existing_number is None:
            return 0

        def known(connection: Connection) -> bool:
            held = rows.hold(connection, job_id)
            if held is None:
                return True
            return file_rows.counter(connection, held.job.tenant, folded(subfolder), folded(prefix)) is not None

        if await self._db.read(known):
            return 0
        return await asyncio.to_thread(self._existing_number, subfolder, prefix)


def _reserve(connection: Connection, job: Job, asked: Reserve, start: int) -> list[FileRow]:
    key_prefix = attempt_prefix(job.tenant, job.id, asked.token, job.created_at)
    keys = [output_key(key_prefix, asked.call * MOST_NAMES + i, asked.extension) for i in range(asked.count)]
    present = file_rows.reserved(connection, job.id, asked.call)
    if present and _are_for(present, asked):
        moved = [replace(row, key=key) for row, key in zip(present, keys, strict=True)]
        file_rows.rekey(connection, moved)
        return moved
    new = [
        FileRow(
            tenant=job.tenant,
            type="output",
            subfolder=asked.subfolder,
            filename=filename,
            key=keys[i],
            size_bytes=None,
            sha256=None,
            job_id=job.id,
            call=asked.call,
            ordinal=i,
        )
        for i, filename in enumerate(_free_names(connection, job.tenant, asked, start))
    ]
    file_rows.drop_call(connection, job.id, asked.call)
    file_rows.add(connection, new)
    return new


def _are_for(present: list[FileRow], asked: Reserve) -> bool:
    """Whether an earlier attempt's names serve this call too: same folder, prefix, extension and count."""
    return len(present) == asked.count and all(
        row.subfolder == asked.subfolder
        and row.filename.startswith(_in_batch(asked.prefix, i) + "_")
        and row.filename.endswith("_" + asked.extension)
        for i, row in enumerate(present)
    )


def _free_names(connection: Connection, tenant: str, asked: Reserve, start: int) -> list[str]:
    """Numbers go up by one; one whose name was uploaded by hand is passed over."""
    names: list[str] = []
    while len(names) < asked.count:
        numbers = file_rows.count_up(
            connection,
            tenant,
            folded(asked.subfolder),
            folded(asked.prefix),
            start=start,
            count=asked.count - len(names),
        )
        for number in numbers:
            name = f"{_in_batch(asked.prefix, len(names))}_{number:05}_{asked.extension}"
            if file_rows.find(connection, tenant, "output", asked.subfolder, name) is None:
                names.append(name)
    return names


def _in_batch(prefix: str, ordinal: int) -> str:
    return prefix.replace("%batch_num%", str(ordinal))


def _fault(asked: Reserve) -> str | None:
    if not 0 < asked.count <= MOST_NAMES:
        return f"count is {asked.count}, but must be 1 to {MOST_NAMES}"
    if not re.fullmatch(r"(\.[A-Za-z0-9]{1,16})?", asked.extension):
        return f"extension is {asked.extension!r}, but must look like '.png'"
    try:
        filename_of(f"{asked.prefix}_00000_{asked.extension}")
        tidy = subfolder_of(asked.subfolder)
    except BadName as error:
        return error.message
    return None if tidy == asked.subfolder else f"subfolder is {asked.subfolder!r}, write it as {tidy!r}"


def _written(file: dict[str, Any]) -> dict[str, Any]:
    """A reported file as a row; a member that is absent is a bad message (KeyError)."""
    return {name: file[name] for name in ("key", "subfolder", "filename", "size_bytes", "sha256")}
