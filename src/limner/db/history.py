"""Ended jobs: what the history shows, and how much of it is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, func, select, text

from limner.db.rows import JOB, REQUEST, RESULT, time_of, to_job
from limner.db.scope import of
from limner.db.tables import job_requests, job_results, jobs
from limner.jobs.model import Job

KEPT = 10_000
"""Entries per tenant; the oldest goes first."""

_ENTRIES = (
    select(*JOB, *REQUEST, *RESULT)
    .join(job_requests, job_requests.c.job == jobs.c.seq)
    .outerjoin(job_results, job_results.c.job == jobs.c.seq)
    .where(jobs.c.ended_at.is_not(None), jobs.c.hidden.is_(False))
)


def count(connection: Connection, tenant: str) -> int:
    """How many ended jobs are there to be shown, those over KEPT included."""
    statement = select(func.count()).select_from(jobs)
    statement = statement.where(of(tenant, jobs), jobs.c.ended_at.is_not(None), jobs.c.hidden.is_(False))
    return int(connection.execute(statement).scalar_one())


def page(connection: Connection, tenant: str, *, skip: int, limit: int) -> list[Job]:
    """Ended jobs, the first to end first."""
    statement = _ENTRIES.where(of(tenant, jobs)).order_by(jobs.c.ended_at, jobs.c.seq).offset(skip).limit(limit)
    return [to_job(row._mapping) for row in connection.execute(statement)]


def entry(connection: Connection, tenant: str, prompt_id: str) -> Job | None:
    statement = _ENTRIES.where(of(tenant, jobs), jobs.c.prompt_id == prompt_id)
    row = connection.execute(statement.order_by(jobs.c.ended_at.desc(), jobs.c.seq.desc()).limit(1)).one_or_none()
    return None if row is None else to_job(row._mapping)


def hide(connection: Connection, tenant: str, prompt_ids: Sequence[str] | None) -> int:
    """Hides ended jobs, all of them where `prompt_ids` is None; how many they were."""
    statement = jobs.update().where(of(tenant, jobs), jobs.c.ended_at.is_not(None), jobs.c.hidden.is_(False))
    if prompt_ids is not None:
        statement = statement.where(jobs.c.prompt_id.in_(prompt_ids))
    return connection.execute(statement.values(hidden=True)).rowcount


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """An ended job with attempts that came to nothing; `token` is that of the attempt which ended it, if one did."""

    id: str
    tenant: str
    token: str | None
    created_at: datetime
    ended_at: float


_TRIED = text(
    """
    SELECT id, tenant, token, created_at, ended_at FROM jobs
    WHERE ended_at > :after AND ended_at <= limner_now() - :age
        AND (SELECT count(*) FROM attempts WHERE attempts.job = jobs.seq) > CASE WHEN token IS NULL THEN 0 ELSE 1 END
    ORDER BY ended_at
    """
)


def tried(connection: Connection, *, after: float, age_seconds: float) -> list[Tried]:
    """Jobs that have left something of lost attempts, ended later than `after` and for at least that long."""
    rows = connection.execute(_TRIED, {"after": after, "age": age_seconds})
    return [
        Tried(id=row.id, tenant=row.tenant, token=row.token, created_at=time_of(row.created_at), ended_at=row.ended_at)
        for row in rows
    ]


_FORGET = text(
    """
    DELETE FROM jobs WHERE seq IN (
        SELECT seq FROM (
            SELECT seq, row_number() OVER (PARTITION BY tenant, hidden ORDER BY ended_at DESC, seq DESC) AS place
            FROM jobs WHERE ended_at IS NOT NULL
        ) AS ended WHERE place > :kept)
    """
)


def forget_the_oldest(connection: Connection, kept: int = KEPT) -> int:
    """Deletes ended jobs over the bound, shown and hidden ones counted apart. Files that they made stay."""
    return connection.execute(_FORGET, {"kept": kept}).rowcount
