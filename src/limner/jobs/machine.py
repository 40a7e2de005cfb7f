"""The life of a job, decided without I/O: decide(job, event) -> (job, effects).

                 release            claim                    report
    queued  ───────────────►  released ─────►  running  ───────────────►  succeeded | failed | canceled
       ▲    ◄───────────────      │               │  ▲
       │     recall, no token     │ cancel        │  │ claim after a lost worker
       │                          ▼        cancel ▼  │
       │                      canceled         canceling  ──report, loss──►  canceled (or what the run became)
       └── retry later, returned, unfit, no token ┘

Release and recall move many rows at once and are single statements in db/release.py; each of them raises the epoch
whenever it takes a token back, which is all that this file needs to know of them.

Two numbers keep late messages harmless. The *epoch* rises whenever a job goes back to the queue: a claim with a
token of an older epoch is refused. The *token* (fencing token) is new with each granted claim: a report with
another token is refused. Going back to the queue keeps the fencing token, so that a worker that was thought lost
may still finish the job as long as nobody else has claimed it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from limner.jobs.events import (
    Accepted,
    AttemptEnded,
    CancelAsked,
    ClaimAsked,
    Effect,
    Ended,
    Event,
    Granted,
    InterruptWorker,
    NobodyCame,
    PurgeToken,
    Refused,
    Reported,
    RunAfter,
    TokenMissing,
)
from limner.jobs.model import Job, State

MAX_ATTEMPTS = 3
MAX_ATTEMPTS_OUT_OF_MEMORY = 2
MAX_RESUMES = 5
FIRST_BACKOFF_SECONDS = 5.0
LONGEST_BACKOFF_SECONDS = 300.0

ENDS = {
    "succeeded": State.SUCCEEDED,
    "failed": State.FAILED,
    "interrupted": State.CANCELED,
    "returned": State.CANCELED,
    "unfit": State.FAILED,
}
"""What a job that has ended must be, for a report of this outcome to be a repeat of the one that ended it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """The job as it shall be, and what else has to happen. An unchanged job is the very same object."""

    job: Job
    effects: tuple[Effect, ...]

    @property
    def answer(self) -> Granted | Accepted | Refused | None:
        return next((e for e in self.effects if isinstance(e, Granted | Accepted | Refused)), None)


def decide(job: Job, event: Event) -> Decision:
    """What an event makes of a job. Pure: the same arguments give the same answer, and nothing is touched."""
    match event:
        case ClaimAsked():
            return _claim(job, event)
        case Reported():
            return _report(job, event)
        case CancelAsked():
            return _cancel(job, event)
        case TokenMissing():
            return _token_missing(job, event)
        case NobodyCame():
            return _nobody_came(job, event)


def backoff_seconds(failures: int, jitter: float = 0.0) -> float:
    """How long to wait after the n-th failure: 5 s, 10 s, 20 s ... up to 300 s, and up to a fifth more by `jitter`."""
    seconds: float = FIRST_BACKOFF_SECONDS * 2 ** (max(failures, 1) - 1)
    return min(seconds, LONGEST_BACKOFF_SECONDS) * (1.0 + 0.2 * jitter)


def _claim(job: Job, asked: ClaimAsked) -> Decision:
    if job.state.terminal:
        return _unchanged(job, Refused(reason=f"the job is {job.state}"))
    if asked.epoch != job.epoch:
        return _unchanged(job, Refused(reason=f"the token is of epoch {asked.epoch}, the job is at {job.epoch}"))
    if asked.resumed:
        return _resume(job, asked)
    if job.state is State.CANCELING:
        canceled = replace(job, state=State.CANCELED, ended_at=asked.now)
        return _with(canceled, Refused(reason="the job was canceled"), AttemptEnded(outcome="lost"), Ended())
    if job.state is State.RUNNING:
        return _claim_running(job, asked)
    if job.state is State.QUEUED:
        return _unchanged(job, Refused(reason="the job has not been released"))
    if _avoids(job, asked.worker, asked.catalogue):
        return _unchanged(job, Refused(reason="this worker cannot run the job", elsewhere=True))
    if job.attempts >= MAX_ATTEMPTS:
        return _lost_for_good(job, asked)
    return _with(_granted(job, asked), *_superseded(job), *_dismissed(job, asked), Granted())


def _resume(job: Job, asked: ClaimAsked) -> Decision:
    """The run may have outlived its supervisor. One that was to stop meanwhile is told so again.

    Each time counts as a loss: a job that kills its supervisor again and again ends as one that kills its worker.
    """
    if (job.worker, job.delivery) != (asked.worker, asked.delivery) or job.token is None:
        return _unchanged(job, Refused(reason="another delivery has the job now"))
    if job.state is State.RUNNING and job.losses >= MAX_RESUMES:
        return _unchanged(job, Refused(reason=f"its supervisor was lost {job.losses} times already"))
    if job.state is State.RUNNING:
        return _with(replace(job, losses=job.losses + 1), Granted(repeat=True))
    if job.state is State.CANCELING:
        return _unchanged(job, Granted(repeat=True), InterruptWorker(worker=asked.worker, token=job.token))
    return _unchanged(job, Refused(reason=f"the job is {job.state}"))


def _claim_running(job: Job, asked: ClaimAsked) -> Decision:
    """The token was delivered again: either this worker repeats itself, or the one before was lost."""
    if (job.worker, job.delivery) == (asked.worker, asked.delivery):
        return _unchanged(job, Granted(repeat=True))
    job = replace(job, losses=job.losses + 1)
    if job.attempts >= MAX_ATTEMPTS:
        return _lost_for_good(job, asked)
    lost = AttemptEnded(outcome="lost")
    if job.losses == 1:
        return _with(_granted(job, asked), lost, *_dismissed(job, asked), Granted())
    wait = backoff_seconds(job.losses - 1)
    refused = Refused(reason=f"{job.losses} workers were lost with this job; it waits {wait:.0f} s")
    return _with(_back(job), lost, refused, RunAfter(seconds=wait))


def _granted(job: Job, asked: ClaimAsked) -> Job:
    return replace(
        job,
        state=State.RUNNING,
        attempts=job.attempts + 1,
        token=asked.new_token,
        worker=asked.worker,
        delivery=asked.delivery,
        started_at=asked.now,
    )


def _superseded(job: Job) -> tuple[AttemptEnded, ...]:
    """A job that was put back while its worker may have lived still has that attempt's token, until now."""
    return () if job.token is None else (AttemptEnded(outcome="lost"),)


def _dismissed(job: Job, asked: ClaimAsked) -> tuple[InterruptWorker, ...]:
    """The worker that was thought lost may only have been cut off: it need not work on for nothing.

    Only once its token is good for nothing any more: while the job waits it may still finish it. The same worker
    asking again has come back without the job, and has nothing to stop.
    """
    if job.worker is None or job.token is None or job.worker == asked.worker:
        return ()
    return (InterruptWorker(worker=job.worker, token=job.token),)


def _lost_for_good(job: Job, asked: ClaimAsked) -> Decision:
    error = _without_run(
        job,
        exception_message=f"The worker vanished during the run, {job.attempts} times in all.\n",
        exception_type="WorkerLost",
        code="worker_lost",
        retryable=True,
    )
    failed = replace(
        job,
        state=State.FAILED,
        ended_at=asked.now,
        error=error,
        messages=(_execution_error(error, asked.now),),
    )
    refused = Refused(reason=f"all {job.attempts} attempts are used up")
    return _with(failed, AttemptEnded(outcome="lost"), *_dismissed(job, asked), refused, Ended())


def _without_run(job: Job, **what: Any) -> dict[str, Any]:
    """In the shape of a node's exception, so that every face can show it."""
    return {
        "prompt_id": job.prompt_id,
        "node_id": "",
        "node_type": "",
        "executed": [],
        "traceback": [],
        "current_inputs": {},
        "current_outputs": [],
        **what,
    }


def _execution_error(error: dict[str, Any], now: datetime) -> tuple[str, dict[str, Any]]:
    return "execution_error", error | {"timestamp": int(now.timestamp() * 1000)}


def _report(job: Job, told: Reported) -> Decision:
    if job.token is None or told.token != job.token:
        return _unchanged(job, Refused(reason="the lease was lost: another attempt has begun, or this one has ended"))
    if job.state.terminal:
        same = ENDS.get(told.outcome) is job.state
        return _unchanged(job, Accepted(repeat=True) if same else Refused(reason=f"the job is {job.state}"))
    match told.outcome:
        case "succeeded":
            return _end(job, told, State.SUCCEEDED)
        case "interrupted":
            return _end(job, told, State.CANCELED)
        case "returned":
            return _returned(job, told)
        case "failed":
            return _failed(job, told)
        case "unfit":
            return _unfit(job, told)
    return _unchanged(job, Refused(reason=f"unknown outcome {told.outcome!r}"))


def _end(job: Job, told: Reported, state: State) -> Decision:
    ended = replace(
        job,
        state=state,
        ended_at=told.now,
        result=told.result,
        messages=told.messages,
        error=told.error if state is State.FAILED else None,
        models=told.models or job.models,
    )
    return _with(ended, Accepted(), AttemptEnded(outcome=told.outcome), *_purge(job), Ended())


def _failed(job: Job, told: Reported) -> Decision:
    error = told.error or {}
    limit = MAX_ATTEMPTS_OUT_OF_MEMORY if error.get("code") == "out_of_memory" else MAX_ATTEMPTS
    if not error.get("retryable") or (job.attempts >= limit and job.state is not State.CANCELING):
        return _end(job, told, State.FAILED)
    if job.state is State.CANCELING:
        return _end(job, told, State.CANCELED)
    wait = backoff_seconds(job.attempts, told.jitter)
    if error.get("code") == "worker_lost":  # only its engine, so that the worker could tell; it counts the same
        job = replace(job, losses=job.losses + 1)
        wait = 0.0 if job.losses == 1 else backoff_seconds(job.losses - 1, told.jitter)
    again = replace(_back(job), token=None, worker=None, delivery=None)
    return _with(again, Accepted(), AttemptEnded(outcome="failed"), *_purge(job), RunAfter(seconds=wait))


def _returned(job: Job, told: Reported) -> Decision:
    if job.state is State.CANCELING:
        return _end(job, told, State.CANCELED)
    return _handed_back(job, told)


def _unfit(job: Job, told: Reported) -> Decision:
    """For another worker, if there is one that has not been tried with what it can run now."""
    if job.state is State.CANCELING:
        return _end(job, told, State.CANCELED)
    avoid = {**job.avoid, job.worker or "": told.catalogue}
    if not _could_run(told.workers, avoid):
        return _end(job, told, State.FAILED)
    return _handed_back(replace(job, avoid=avoid), told)


def _handed_back(job: Job, told: Reported) -> Decision:
    """The attempt does not count: the job runs as soon as a worker is free."""
    again = replace(job, token=None, worker=None, delivery=None, attempts=max(job.attempts - 1, 0))
    ended = AttemptEnded(outcome=told.outcome)
    if job.state.waiting:  # the sweep was faster: the job already waits under a newer epoch
        return _with(again, Accepted(), ended)
    return _with(_back(again), Accepted(), ended, RunAfter(seconds=0.0))


def _avoids(job: Job, worker: str, catalogue: str) -> bool:
    """Whether this worker could not run the job, and nothing in what it can run has changed since."""
    return job.avoid.get(worker) == catalogue


def _could_run(workers: Mapping[str, str], avoid: Mapping[str, str]) -> bool:
    """Whether one of the live workers may be able to: it has another catalogue than those that are not.

    One that is still starting ("") may turn out to have anything.
    """
    unfit = set(avoid.values())
    return any(
        avoid.get(worker) != catalogue and (not catalogue or catalogue not in unfit)
        for worker, catalogue in workers.items()
    )


def _cancel(job: Job, asked: CancelAsked) -> Decision:
    if job.state.terminal:
        return _unchanged(job)
    still_running = (
        (InterruptWorker(worker=job.worker, token=job.token),)
        if job.worker is not None and job.token is not None
        else ()
    )
    if job.state.waiting:
        canceled = replace(job, state=State.CANCELED, epoch=job.epoch + 1, ended_at=asked.now)
        return _with(canceled, *_superseded(job), *_purge(job), *still_running, Ended(hidden=True))
    if job.state is State.CANCELING:
        return _unchanged(job, *still_running)
    return _with(replace(job, state=State.CANCELING), *still_running)


def _nobody_came(job: Job, found: NobodyCame) -> Decision:
    """A job that every live worker refuses has no better end to wait for."""
    if job.state is not State.RELEASED or not job.avoid or _could_run(found.workers, job.avoid):
        return _unchanged(job)
    error = _without_run(
        job,
        exception_message="No worker that is there now has all the nodes and models that the workflow names.\n",
        exception_type="UnfitWorker",
        code="unfit_worker",
        retryable=False,
    )
    failed = replace(
        job,
        state=State.FAILED,
        ended_at=found.now,
        error=error,
        messages=(_execution_error(error, found.now),),
    )
    return _with(failed, *_superseded(job), *_purge(job), Ended())


def _token_missing(job: Job, found: TokenMissing) -> Decision:
    if job.state is State.CANCELING:
        return _with(replace(job, state=State.CANCELED, ended_at=found.now), AttemptEnded(outcome="lost"), Ended())
    if job.state in (State.RELEASED, State.RUNNING):
        return _with(_back(job), RunAfter(seconds=0.0))
    return _unchanged(job)


def _back(job: Job) -> Job:
    return replace(job, state=State.QUEUED, epoch=job.epoch + 1)


def _purge(job: Job) -> tuple[PurgeToken, ...]:
    """While a job runs its worker holds the token and acknowledges it; only a waiting job's has to be taken back."""
    return (PurgeToken(),) if job.state is State.RELEASED else ()


def _unchanged(job: Job, *effects: Effect) -> Decision:
    return Decision(job=job, effects=effects)


def _with(job: Job, *effects: Effect) -> Decision:
    return Decision(job=job, effects=effects)
