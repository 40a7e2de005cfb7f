"""The tables. What changes often (jobs) is kept apart from what is large (requests, results).

Times are seconds since 1970 by the database's clock, `limner_now()`; a job with `run_at` 0 need not wait for any (a
clock that is set back must not stop the queue). JSON is text. A job is open while `ended_at` is
null; the partial indexes hold open rows only, so that they stay small however long the history grows.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)

metadata = MetaData()

SEQUENCE = BigInteger().with_variant(Integer, "sqlite")
"""SQLite numbers rows by itself only where the type is INTEGER."""

tenants = Table(
    "tenants",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("next_number", BigInteger, nullable=False),
    Column("vft", Double, nullable=False),
    Column("weight", Double, nullable=False),
    Column("open_jobs", BigInteger, nullable=False),
)

pools = Table(
    "pools",
    metadata,
    Column("pool", Text, primary_key=True),
    Column("vft", Double, nullable=False),
)

jobs = Table(
    "jobs",
    metadata,
    Column("seq", SEQUENCE, primary_key=True),
    Column("id", Text, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("pool", Text, nullable=False),
    Column("lane", Text, nullable=False),
    Column("prompt_id", Text, nullable=False),
    Column("client_id", Text),
    Column("number", Double, nullable=False),
    Column("number_given", Boolean, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("rank", Integer, nullable=False),
    Column("vft", Double, nullable=False),
    Column("state", Text, nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("losses", Integer, nullable=False),
    Column("token", Text),
    Column("worker", Text),
    Column("delivery", Text),
    Column("models", Text, nullable=False),
    Column("avoid", Text, nullable=False, server_default="{}"),
    Column("created_at", Double, nullable=False),
    Column("run_at", Double, nullable=False),
    Column("ranked_at", Double, nullable=False),
    Column("changed_at", Double, nullable=False),
    Column("started_at", Double),
    Column("ended_at", Double),
    Column("hidden", Boolean, nullable=False),
    UniqueConstraint("id", name="jobs_id"),
)

Index(
    "jobs_live_prompt",
    jobs.c.tenant,
    jobs.c.prompt_id,
    unique=True,
    sqlite_where=text("ended_at IS NULL"),
    postgresql_where=text("ended_at IS NULL"),
)
Index(
    "jobs_slot",
    jobs.c.pool,
    jobs.c.vft,
    sqlite_where=text("state = 'queued'"),
    postgresql_where=text("state = 'queued'"),
)
Index(
    "jobs_turn",
    jobs.c.pool,
    jobs.c.tenant,
    jobs.c.rank.desc(),
    jobs.c.number,
    jobs.c.seq,
    sqlite_where=text("state = 'queued'"),
    postgresql_where=text("state = 'queued'"),
)
Index(
    "jobs_out",
    jobs.c.pool,
    jobs.c.state,
    sqlite_where=text("state IN ('released', 'running', 'canceling')"),
    postgresql_where=text("state IN ('released', 'running', 'canceling')"),
)
Index(
    "jobs_prompt",
    jobs.c.tenant,
    jobs.c.hidden,
    jobs.c.prompt_id,
    jobs.c.ended_at,
    jobs.c.seq,
    sqlite_where=text("ended_at IS NOT NULL"),
    postgresql_where=text("ended_at IS NOT NULL"),
)
Index(
    "jobs_history",
    jobs.c.tenant,
    jobs.c.hidden,
    jobs.c.ended_at,
    jobs.c.seq,
    sqlite_where=text("ended_at IS NOT NULL"),
    postgresql_where=text("ended_at IS NOT NULL"),
)

job_requests = Table(
    "job_requests",
    metadata,
    Column("job", SEQUENCE, ForeignKey("jobs.seq", ondelete="CASCADE"), primary_key=True),
    Column("workflow", Text, nullable=False),
    Column("outputs", Text, nullable=False),
    Column("extra_data", Text, nullable=False),
    Column("inputs", Text, nullable=False),
)

job_results = Table(
    "job_results",
    metadata,
    Column("job", SEQUENCE, ForeignKey("jobs.seq", ondelete="CASCADE"), primary_key=True),
    Column("result", Text),
    Column("messages", Text, nullable=False),
    Column("error", Text),
)

attempts = Table(
    "attempts",
    metadata,
    Column("token", Text, primary_key=True),
    Column("job", SEQUENCE, ForeignKey("jobs.seq", ondelete="CASCADE"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("worker", Text, nullable=False),
    Column("started_at", Double, nullable=False),
    Column("ended_at", Double),
    Column("outcome", Text),
)
Index("attempts_job", attempts.c.job)

files = Table(
    "files",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("type", Text, primary_key=True),
    Column("subfolder", Text, primary_key=True),
    Column("filename", Text, primary_key=True),
    Column("key", Text, nullable=False),
    Column("size_bytes", BigInteger),
    Column("sha256", Text),
    Column("job_id", Text),
    Column("call", Integer),
    Column("ordinal", Integer),
    Column("created_at", Double, nullable=False),
)
Index(
    "files_reserved",
    files.c.job_id,
    files.c.call,
    sqlite_where=text("size_bytes IS NULL"),
    postgresql_where=text("size_bytes IS NULL"),
)

name_counters = Table(
    "name_counters",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("subfolder", Text, primary_key=True),
    Column("prefix", Text, primary_key=True),
    Column("last", BigInteger, nullable=False),
)

offered_catalogues = Table(
    "offered_catalogues",
    metadata,
    Column("pool", Text, primary_key=True),
    Column("digest", Text, primary_key=True),
    Column("current", Boolean, nullable=False),
    Column("seen_at", Double, nullable=False),
    Column("catalogue", Text, nullable=False),  # last, as SQLite has to read all of it to come to what is behind
)

catalogues = Table(  # version N-1 writes it, nobody reads it
    "catalogues",
    metadata,
    Column("pool", Text, primary_key=True),
    Column("digest", Text, nullable=False),
    Column("catalogue", Text, nullable=False),
    Column("offered_at", Double, nullable=False),
)
