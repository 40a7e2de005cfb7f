"""Carries out what jobs/machine.py decides: rows inside the transaction, everything else after its commit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from limner import logs
from limner.bus.port import Bus
from limner.db import files as file_rows
from limner.db import jobs as rows
from limner.db.jobs import Held
from limner.db.release import Released
from limner.db.session import Connection
from limner.jobs.events import (
    Accepted,
    AttemptEnded,
    Ended,
    Event,
    Granted,
    InterruptWorker,
    PurgeToken,
    Refused,
    Reported,
    RunAfter,
)
from limner.jobs.machine import Decision, decide
from limner.jobs.model import Job, State
from limner.services.live import LiveEvents
from limner.services.release import Release


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What a transaction did to a job, for `announce`. `remaining`: the tenant's open jobs after it.

    `reason`: why an attempt ended that was not the last.
    """

    before: Job
    decision: Decision
    remaining: int
    released: list[Released]
    reason: str | None = None

    @property
    def job(self) -> Job:
        return self.decision.job

    @property
    def answer(self) -> Granted | Accepted | Refused | None:
        return self.decision.answer

    @property
    def ended(self) -> Ended | None:
        return next((effect for effect in self.decision.effects if isinstance(effect, Ended)), None)


class Life:
    """One per gateway: every change of a job that exists goes through here."""

    def __init__(self, bus: Bus, release: Release) -> None:
        self.live = LiveEvents(bus)
        self.release = release

    def change(
        self,
        connection: Connection,
        held: Held,
        event: Event,
        *,
        files: Sequence[Mapping[str, Any]] = (),
        and_release: bool = True,
    ) -> Change:
        """Inside a transaction: lets the machine decide, and writes the rows. `announce` must follow the commit.

        files: what the job has written, kept if this is its end (see db.files.confirm). and_release: lets the next
        jobs use the room that this makes; whoever changes several jobs does that once, after the last.
        """
        decision = decide(held.job, event)
        if decision.job is held.job:
            return Change(before=held.job, decision=decision, remaining=held.open_jobs, released=[])
        self._write(connection, held, decision, files)
        ended = any(isinstance(effect, Ended) for effect in decision.effects)
        remaining = rows.count_out(connection, held.job.tenant) if ended else held.open_jobs
        made_room = held.job.state is State.RELEASED or decision.job.state is State.QUEUED
        released = self.release.next_jobs(connection) if made_room and and_release else []
        reason = _reason(decision, event)
        return Change(before=held.job, decision=decision, remaining=remaining, released=released, reason=reason)

    def _write(
        self, connection: Connection, held: Held, decision: Decision, files: Sequence[Mapping[str, Any]]
    ) -> None:
        run_after: float | None = None
        hidden = False
        for effect in decision.effects:
            match effect:
                case RunAfter(seconds=seconds):
                    run_after = seconds
                case AttemptEnded(outcome=outcome):
                    rows.end_attempt(connection, held, outcome)
                case Granted(repeat=False):
                    rows.start_attempt(connection, held, decision.job)
                case Ended(hidden=is_hidden):
                    hidden = is_hidden
                    if held.job.attempts:
                        file_rows.confirm(connection, held.job.tenant, held.job.id, files)
                        file_rows.drop_reserved(connection, held.job.id)
                case _:
                    pass
        rows.save(connection, held, decision.job, run_after=run_after, hidden=hidden)

    async def announce(self, change: Change, *, last_seq: int = 0) -> None:
        """After the commit: tokens out and back, interrupts, log lines and live events, in this order."""
        job = change.job
        if any(isinstance(effect, PurgeToken) for effect in change.decision.effects):
            self.release.take_back([Released(id=job.id, pool=job.pool, lane=job.lane, epoch=job.epoch)])
        self.release.publish(change.released)
        for effect in change.decision.effects:
            if isinstance(effect, InterruptWorker):
                await self.live.interrupt(effect.worker, job.id, effect.token)
        if change.ended is not None:
            _log_end(job)
            if change.ended.hidden:
                await self.live.queue_changed(job.tenant, change.remaining)
            else:
                await self.live.ended(job, change.remaining, last_seq)
        elif job.state is not change.before.state:
            _log_step(job, change)
            if job.state is not State.CANCELING:  # as long as it has not ended, the queue is what it was
                await self.live.queue_changed(job.tenant, change.remaining)


def _log_end(job: Job) -> None:
    began = job.started_at or job.created_at
    _log(job, (job.ended_at - began).total_seconds() if job.ended_at else None)


def _log_step(job: Job, change: Change) -> None:
    """A running job's duration is how long it waited. One that goes back says why, and which worker had it."""
    waited = job.state is State.RUNNING and job.started_at
    seconds = (job.started_at - job.created_at).total_seconds() if waited and job.started_at else None
    _log(job, seconds, reason=change.reason, worker=job.worker or change.before.worker)


def _reason(decision: Decision, event: Event) -> str | None:
    """Why the job runs again, in words."""
    if decision.job.state is not State.QUEUED:
        return None
    error = event.error if isinstance(event, Reported) else None
    ended = [effect.outcome for effect in decision.effects if isinstance(effect, AttemptEnded)]
    return _words(error) or (f"the attempt was {ended[0]}" if ended else "its token was lost")


def _words(error: Mapping[str, Any] | None) -> str | None:
    return (str(error.get("exception_message", "")).strip() or None) if error else None


def _log(job: Job, seconds: float | None, *, reason: str | None = None, worker: str | None = None) -> None:
    logs.job_phase(
        job.state.value,
        job_id=job.id,
        prompt_id=job.prompt_id,
        duration_ms=None if seconds is None else round(seconds * 1000, 3),
        model=job.models[0] if job.models else None,
        error=_words(job.error) or reason,
        tenant=job.tenant,
        attempt=job.attempts,
        worker=worker or job.worker,
    )
