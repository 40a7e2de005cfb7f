"""What callers do with jobs: submit, look, cancel, interrupt, forget. One method, one transaction."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from uuid_utils import uuid7

from limner import logs
from limner.bus.port import Bus
from limner.db import history as history_rows
from limner.db import jobs as rows
from limner.db import release as release_rows
from limner.db.release import Released
from limner.db.rows import request_values
from limner.db.session import Connection, Database
from limner.errors import PayloadTooLarge
from limner.jobs.events import CancelAsked
from limner.jobs.lanes import Lanes
from limner.jobs.model import InputFile, Job, State
from limner.services.life import Change, Life
from limner.services.release import Release

MOST_BYTES = 7_000_000
RUNNING = (State.RUNNING, State.CANCELING)
WAITING = (State.QUEUED, State.RELEASED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Submitted:
    job: Job
    queue_remaining: int


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueView:
    """`pending` is in the order in which the jobs will start."""

    running: list[Job]
    pending: list[Job]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Recorded:
    submitted: Submitted
    recalled: list[Released]
    released: list[Released]


class Jobs:
    """The job service behind every face."""

    def __init__(self, db: Database, bus: Bus, release: Release) -> None:
        self._db = db
        self._bus = bus
        self._release = release
        self._life = Life(bus, release)
        self._lanes = Lanes()

    async def submit(
        self,
        *,
        tenant: str,
        workflow: dict[str, Any],
        outputs: Sequence[str],
        number: float | None = None,
        front: bool = False,
        prompt_id: str | None = None,
        client_id: str | None = None,
        extra_data: dict[str, Any],
        inputs: Sequence[InputFile] = (),
        models: Sequence[str] = (),
        priority: int = 0,
    ) -> Submitted:
        """Records a checked workflow; it is on disk when this returns, whatever happens to any process after.

        number: place in the line, smaller first; without one the tenant's counter gives it (with `front`, minus the
        counter). prompt_id: the client's own id, a random UUID when None; an ended job of that id leaves the history.
        models: the base weights that it names; they lead it to a worker that holds them.
        Raises Conflict when an open job has that prompt_id, PayloadTooLarge for more than a worker can be sent.
        """
        job = Job(
            id=str(uuid7()),
            tenant=tenant,
            pool=self._release.pool,
            lane=self._lanes.choose(models, workers=self._release.workers, now=time.monotonic()),
            prompt_id=prompt_id if prompt_id is not None else str(uuid4()),
            client_id=client_id,
            number=number if number is not None else 0.0,
            number_given=number is not None,
            priority=priority,
            workflow=workflow,
            outputs=tuple(outputs),
            extra_data=extra_data,
            inputs=tuple(inputs),
            state=State.QUEUED,
            epoch=0,
            attempts=0,
            token=None,
            worker=None,
            created_at=datetime.now(UTC),
            started_at=None,
            ended_at=None,
            result=None,
            models=tuple(models),
        )
        request = request_values(job)
        _check_size(request)

        def record(connection: Connection) -> _Recorded:
            if prompt_id is not None:
                history_rows.hide(connection, tenant, [prompt_id])
            return self._record(connection, job, request, front=front)

        recorded = await self._db.write(record)
        self._release.take_back(recorded.recalled)
        self._release.publish(recorded.released)
        submitted = recorded.submitted
        logs.job_phase(
            "queued", job_id=job.id, prompt_id=job.prompt_id, model=models[0] if models else None, tenant=tenant
        )
        await self._life.live.queue_changed(tenant, submitted.queue_remaining)
        return submitted

    def _record(self, connection: Connection, job: Job, request: dict[str, str], *, front: bool) -> _Recorded:
        """Inserts a job, released at once when nothing is queued before it and there is room."""
        turn = rows.take_turn(connection, job.tenant, job.pool, counted=not job.number_given)
        if not job.number_given:
            job = replace(job, number=float(-turn.number if front else turn.number))
        recalled = release_rows.recall(connection, job.tenant, job.pool, rank=job.priority, number=job.number)
        room = release_rows.room(connection, job.pool, self._release.window)
        released: list[Released] = []
        if room.free and not room.waiting:
            job = rows.insert(connection, replace(job, state=State.RELEASED), vft=turn.vft, request=request)
            release_rows.move_clock(connection, job.pool, turn.vft)
            released = [Released(id=job.id, pool=job.pool, lane=job.lane, epoch=0)]
        else:
            job = rows.insert(connection, job, vft=turn.vft, request=request)
            released = release_rows.release(connection, job.pool, room.free)
        submitted = Submitted(job=job, queue_remaining=turn.open_jobs)
        return _Recorded(submitted=submitted, recalled=recalled, released=released)

    async def check(self) -> None:
        """Whether jobs could be recorded now: an empty transaction of the writing kind. Raises Unavailable."""
        await self._db.write(lambda _connection: None)

    async def watch(self, tenant: str, client_id: str) -> None:
        """Asks for previews of the client's running jobs: somebody looks from now on. Lost where no worker hears it."""

        def look(connection: Connection) -> list[Job]:
            held = (rows.hold(connection, each) for each in rows.open_ids(connection, tenant, RUNNING, None))
            return [each.job for each in held if each is not None and each.job.client_id == client_id]

        for job in await self._db.read(look):
            if job.worker is not None and job.token is not None:
                await self._life.live.watch(job.worker, job.id, job.token)

    async def remaining(self, tenant: str) -> int:
        """Waiting and running jobs."""
        return await self._db.read(lambda connection: rows.open_jobs(connection, tenant))

    async def queue(self, tenant: str) -> QueueView:
        def look(connection: Connection) -> QueueView:
            return QueueView(running=rows.running(connection, tenant), pending=rows.waiting(connection, tenant))

        return await self._db.read(look)

    async def cancel_waiting(self, tenant: str, prompt_ids: Sequence[str] | None) -> int:
        """Cancels jobs that have not started, all of them where `prompt_ids` is None; how many they were.

        Unknown and running ones are passed over. They leave no history entry.
        """

        def cancel(connection: Connection) -> tuple[int, int, list[Change], list[Released]]:
            queued = rows.cancel_queued(connection, tenant, prompt_ids)
            if queued:
                rows.count_out(connection, tenant, queued)
            changes = self._cancel_each(connection, rows.open_ids(connection, tenant, WAITING, prompt_ids))
            remaining = rows.open_jobs(connection, tenant)
            return queued, remaining, changes, self._release.next_jobs(connection)

        queued, remaining, changes, released = await self._db.write(cancel)
        self._release.publish(released)
        for change in changes:
            await self._life.announce(change)
        if queued:
            await self._life.live.queue_changed(tenant, remaining)
        return queued + len(changes)

    async def interrupt(self, tenant: str, prompt_id: str | None) -> int:
        """Asks the workers of the tenant's running jobs to stop (of that one with `prompt_id`); how many were asked.

        The jobs stay until their workers report. Other tenants' jobs are never touched.
        """

        def cancel(connection: Connection) -> list[Change]:
            wanted = None if prompt_id is None else [prompt_id]
            return self._cancel_each(connection, rows.open_ids(connection, tenant, RUNNING, wanted))

        changes = await self._db.write(cancel)
        for change in changes:
            await self._life.announce(change)
        return len(changes)

    def _cancel_each(self, connection: Connection, job_ids: Sequence[str]) -> list[Change]:
        held = (rows.hold(connection, job_id) for job_id in job_ids)
        return [
            self._life.change(connection, one, CancelAsked(now=one.now), and_release=False)
            for one in held
            if one is not None
        ]

    async def history(self, tenant: str, *, max_items: int | None = None, offset: int | None = None) -> list[Job]:
        """Ended jobs, oldest first, the newest 10,000 at the most.

        Only max_items: the last ones. Only offset: all from there on (a negative one: all). Both: a window from
        offset, of one job even where max_items is smaller, as ComfyUI has it; a negative offset counts as none.
        """

        def look(connection: Connection) -> list[Job]:
            total = history_rows.count(connection, tenant)
            skip = max(total - history_rows.KEPT, 0)
            first, limit = _window(total - skip, max_items, offset)
            return history_rows.page(connection, tenant, skip=skip + first, limit=limit) if limit > 0 else []

        return await self._db.read(look)

    async def history_entry(self, tenant: str, prompt_id: str) -> Job | None:
        """The ended job of this prompt_id; None while it has not ended, and when there is none."""
        return await self._db.read(lambda connection: history_rows.entry(connection, tenant, prompt_id))

    async def hide(self, tenant: str, prompt_ids: Sequence[str] | None) -> int:
        """Takes jobs out of the history, all where `prompt_ids` is None; how many. Their files stay."""
        return await self._db.write(lambda connection: history_rows.hide(connection, tenant, prompt_ids))

    async def free(self, *, unload_models: bool, free_memory: bool) -> None:
        """Asks every worker to let go of models, and of cached results as well with `free_memory`."""
        for worker in await self._bus.workers():
            await self._life.live.free(worker.worker, unload_models=unload_models, free_memory=free_memory)


def _check_size(request: dict[str, str]) -> None:
    """The claim's answer holds all of it in one message, and NATS takes 8 MB."""
    size = sum(len(part.encode()) for part in request.values())
    if size > MOST_BYTES:
        raise PayloadTooLarge(
            f"The workflow and its extra data take {size / 1e6:.1f} MB; {MOST_BYTES / 1e6:.0f} MB is the most. "
            "Upload large data as files and name them in the workflow.",
            size_bytes=size,
        )


def _window(total: int, max_items: int | None, offset: int | None) -> tuple[int, int]:
    """(first, how many) of `total` entries."""
    if offset is None or offset < 0:
        if max_items is None:
            return 0, total
        return max(total - max_items, 0), max_items
    return offset, total if max_items is None else max(max_items, 1)
