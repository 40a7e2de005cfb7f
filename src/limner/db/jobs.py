"""Jobs in SQL: each function one statement, named for its meaning, and never a commit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import BindParameter, Connection, bindparam, func, select, text
from sqlalchemy.exc import IntegrityError

from limner.db.hot import Hot
from limner.db.rows import JOB, REQUEST, time_of, to_job, to_json, to_seconds
from limner.db.scope import of
from limner.db.tables import job_requests, jobs, tenants
from limner.errors import Conflict
from limner.jobs.model import Job, State


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What a tenant's next job gets: its number, its place among all tenants' jobs, and how many are open with it."""

    number: int
    vft: float
    open_jobs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A job that no other transaction may change before this one ends. `now` is the database's clock, `open_jobs`
    how many its tenant has, this one included."""

    seq: int
    job: Job
    now: datetime
    changed_at: datetime
    open_jobs: int


_TAKE_TURN = Hot(
    """
    INSERT INTO tenants (tenant, next_number, vft, weight, open_jobs)
    VALUES (:tenant, :step, coalesce((SELECT vft FROM pools WHERE pool = :pool), 0.0) + 1.0, 1.0, 1)
    ON CONFLICT (tenant) DO UPDATE SET
        next_number = tenants.next_number + :step,
        vft = 1.0 / tenants.weight + CASE
            WHEN tenants.vft < coalesce((SELECT vft FROM pools WHERE pool = :pool), 0.0)
            THEN (SELECT vft FROM pools WHERE pool = :pool) ELSE tenants.vft END,
        open_jobs = tenants.open_jobs + 1
    RETURNING next_number - :step AS number, vft, open_jobs
    """
)


def take_turn(connection: Connection, tenant: str, pool: str, *, counted: bool) -> Turn:
    """Counts a new open job in. `counted`: it takes a number from the tenant's counter, which then moves on.

    Start-time fair queueing: a job's virtual finish time is the later of the pool's clock and its tenant's last one,
    plus 1 / weight. Goyal, Vin, Cheng 1996 (doi:10.1145/248157.248171).
    """
    row = _TAKE_TURN.one(connection, {"tenant": tenant, "pool": pool, "step": int(counted)})
    return Turn(number=row["number"], vft=row["vft"], open_jobs=row["open_jobs"])


_INSERT = Hot(
    """
    INSERT INTO jobs (id, tenant, pool, lane, prompt_id, client_id, number, number_given, priority, rank, vft, state,
        epoch, attempts, losses, models, created_at, run_at, ranked_at, changed_at, hidden)
    SELECT :id, :tenant, :pool, :lane, :prompt_id, :client_id, :number, :number_given, :priority, :priority, :vft,
        :state, 0, 0, 0, :models, now, 0, now, now, :hidden
    FROM (SELECT limner_now() AS now) AS clock
    RETURNING seq, created_at
    """
)

_INSERT_REQUEST = Hot(
    "INSERT INTO job_requests (job, workflow, outputs, extra_data, inputs) "
    "VALUES (:job, :workflow, :outputs, :extra_data, :inputs)"
)


def insert(connection: Connection, job: Job, *, vft: float, request: dict[str, str]) -> Job:
    """Records a job; `created_at` becomes the database's time. Raises Conflict when an open job has its prompt_id."""
    values = {
        "id": job.id,
        "tenant": job.tenant,
        "pool": job.pool,
        "lane": job.lane,
        "prompt_id": job.prompt_id,
        "client_id": job.client_id,
        "number": job.number,
        "number_given": job.number_given,
        "priority": job.priority,
        "vft": vft,
        "state": job.state.value,
        "models": to_json(job.models),
        "hidden": False,
    }
    try:
        row = _INSERT.one(connection, values)
    except IntegrityError as error:
        raise Conflict(
            f"There is a job with prompt_id {job.prompt_id!r} in the queue already. "
            "Send another prompt_id, or none to get one, or wait until that job has ended.",
            prompt_id=job.prompt_id,
        ) from error
    _INSERT_REQUEST.run(connection, request | {"job": row["seq"]})
    return replace(job, created_at=time_of(row["created_at"]))


_ID: BindParameter[str] = bindparam("id")
_HELD = (
    select(
        *JOB,
        func.limner_now().label("now"),
        select(tenants.c.open_jobs).where(tenants.c.tenant == jobs.c.tenant).scalar_subquery().label("open_jobs"),
    )
    .where(jobs.c.id == _ID)
    .with_for_update(of=jobs)
)
_BARE = Hot(_HELD)
_WITH_REQUEST = Hot(_HELD.add_columns(*REQUEST).join(job_requests, job_requests.c.job == jobs.c.seq))


def hold(connection: Connection, job_id: str, *, with_request: bool = False) -> Held | None:
    """A job, locked until the transaction ends; with what was submitted only where that is asked for (rows.to_job)."""
    row = (_WITH_REQUEST if with_request else _BARE).find(connection, {"id": job_id})
    if row is None:
        return None
    return Held(
        seq=row["seq"],
        job=to_job(dict(row)),
        now=time_of(row["now"]),
        changed_at=time_of(row["changed_at"]),
        open_jobs=row["open_jobs"],
    )


_SAVE = Hot(
    """
    UPDATE jobs SET state = :state, epoch = :epoch, attempts = :attempts, losses = :losses, token = :token,
        worker = :worker, delivery = :delivery, models = :models, avoid = :avoid, started_at = :started_at,
        ended_at = :ended_at, hidden = :hidden, changed_at = :now, run_at = coalesce(:run_at, run_at)
    WHERE seq = :seq
    """
)

_SAVE_RESULT = Hot(
    """
    INSERT INTO job_results (job, result, messages, error) VALUES (:job, :result, :messages, :error)
    ON CONFLICT (job) DO UPDATE SET result = excluded.result, messages = excluded.messages, error = excluded.error
    """
)


def save(connection: Connection, held: Held, job: Job, *, run_after: float | None = None, hidden: bool = False) -> None:
    """Writes what has become of a held job, with its result once it has ended."""
    values: dict[str, Any] = {
        "seq": held.seq,
        "state": job.state.value,
        "epoch": job.epoch,
        "attempts": job.attempts,
        "losses": job.losses,
        "token": job.token,
        "worker": job.worker,
        "delivery": job.delivery,
        "models": to_json(job.models),
        "avoid": to_json(job.avoid),
        "started_at": to_seconds(job.started_at),
        "ended_at": to_seconds(job.ended_at),
        "hidden": hidden,
        "now": held.now.timestamp(),
        "run_at": held.now.timestamp() + run_after if run_after else run_after,
    }
    _SAVE.run(connection, values)
    if job.state.terminal and not hidden:
        result = {
            "job": held.seq,
            "result": None if job.result is None else to_json(job.result),
            "messages": to_json(job.messages),
            "error": None if job.error is None else to_json(job.error),
        }
        _SAVE_RESULT.run(connection, result)


_COUNT_OUT = Hot("UPDATE tenants SET open_jobs = open_jobs - :ended WHERE tenant = :tenant RETURNING open_jobs")


def count_out(connection: Connection, tenant: str, ended: int = 1) -> int:
    """Counts ended jobs out; how many of the tenant's are still open."""
    return int(_COUNT_OUT.one(connection, {"tenant": tenant, "ended": ended})["open_jobs"])


_OPEN = Hot("SELECT open_jobs FROM tenants WHERE tenant = :tenant")


def open_jobs(connection: Connection, tenant: str) -> int:
    """Waiting and running jobs of a tenant."""
    row = _OPEN.find(connection, {"tenant": tenant})
    return 0 if row is None else int(row["open_jobs"])


_START_ATTEMPT = Hot(
    "INSERT INTO attempts (token, job, number, worker, started_at) VALUES (:token, :job, :number, :worker, :now)"
)
_END_ATTEMPT = Hot("UPDATE attempts SET ended_at = :now, outcome = :outcome WHERE token = :token AND ended_at IS NULL")


def start_attempt(connection: Connection, held: Held, job: Job) -> None:
    values = {"token": job.token, "job": held.seq, "number": job.attempts, "worker": job.worker}
    _START_ATTEMPT.run(connection, values | {"now": held.now.timestamp()})


def end_attempt(connection: Connection, held: Held, outcome: str) -> None:
    """Closes the attempt that held the job before this transaction."""
    values = {"token": held.job.token, "outcome": outcome, "now": held.now.timestamp()}
    _END_ATTEMPT.run(connection, values)


_OUT = text("jobs.state IN ('released', 'running', 'canceling')")  # else SQLite would not use the index jobs_out


def had_by(connection: Connection, pool: str, worker: str) -> list[Job]:
    """What a worker runs as far as is known here, the last begun first; without what was submitted."""
    statement = select(*JOB).where(_OUT, jobs.c.pool == pool, jobs.c.state.in_([State.RUNNING, State.CANCELING]))
    statement = statement.where(jobs.c.worker == worker).order_by(jobs.c.started_at.desc(), jobs.c.seq.desc())
    return [to_job(row._mapping) for row in connection.execute(statement)]


_WHOLE = select(*JOB, *REQUEST).join(job_requests, job_requests.c.job == jobs.c.seq).where(jobs.c.ended_at.is_(None))


def running(connection: Connection, tenant: str) -> list[Job]:
    """A tenant's jobs that a worker has now, the longest running first."""
    statement = _WHOLE.where(of(tenant, jobs), jobs.c.state.in_([State.RUNNING, State.CANCELING]))
    return [to_job(row._mapping) for row in connection.execute(statement.order_by(jobs.c.started_at, jobs.c.seq))]


def waiting(connection: Connection, tenant: str) -> list[Job]:
    """A tenant's jobs that have not started, in the order in which they will."""
    statement = _WHOLE.where(of(tenant, jobs), jobs.c.state.in_([State.QUEUED, State.RELEASED]))
    return [
        to_job(row._mapping)
        for row in connection.execute(statement.order_by(jobs.c.rank.desc(), jobs.c.number, jobs.c.seq))
    ]


def open_ids(
    connection: Connection, tenant: str, states: Sequence[State], prompt_ids: Sequence[str] | None
) -> list[str]:
    """Ids of a tenant's open jobs in these states; `prompt_ids` None: all of them."""
    statement = select(jobs.c.id).where(of(tenant, jobs), jobs.c.ended_at.is_(None), jobs.c.state.in_(states))
    if prompt_ids is not None:
        statement = statement.where(jobs.c.prompt_id.in_(prompt_ids))
    return list(connection.execute(statement.order_by(jobs.c.seq)).scalars())


def cancel_queued(connection: Connection, tenant: str, prompt_ids: Sequence[str] | None) -> int:
    """Cancels the waiting jobs that have no token out and no worker to tell; how many they were.

    machine.py's rule for a waiting job, for any number of rows at once.
    """
    statement = jobs.update().where(
        of(tenant, jobs), jobs.c.ended_at.is_(None), jobs.c.state == State.QUEUED, jobs.c.token.is_(None)
    )
    if prompt_ids is not None:
        statement = statement.where(jobs.c.prompt_id.in_(prompt_ids))
    now = func.limner_now()
    return connection.execute(
        statement.values(state=State.CANCELED, epoch=jobs.c.epoch + 1, ended_at=now, changed_at=now, hidden=True)
    ).rowcount
