"""The first tables: tenants, pools, jobs with their requests and results, attempts, files, names, catalogues."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

SEQUENCE = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    op.create_table(
        "tenants",
        sa.Column("tenant", sa.Text, primary_key=True),
        sa.Column("next_number", sa.BigInteger, nullable=False),
        sa.Column("vft", sa.Double, nullable=False),
        sa.Column("weight", sa.Double, nullable=False),
        sa.Column("open_jobs", sa.BigInteger, nullable=False),
    )
    op.create_table("pools", sa.Column("pool", sa.Text, primary_key=True), sa.Column("vft", sa.Double, nullable=False))
    op.create_table(
        "jobs",
        sa.Column("seq", SEQUENCE, primary_key=True),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("tenant", sa.Text, nullable=False),
        sa.Column("pool", sa.Text, nullable=False),
        sa.Column("lane", sa.Text, nullable=False),
        sa.Column("prompt_id", sa.Text, nullable=False),
        sa.Column("client_id", sa.Text),
        sa.Column("number", sa.Double, nullable=False),
        sa.Column("number_given", sa.Boolean, nullable=False),
        sa.Column("priority", sa.Integer, nullable=False),
        sa.Column("rank", sa.Integer, nullable=False),
        sa.Column("vft", sa.Double, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("epoch", sa.Integer, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("losses", sa.Integer, nullable=False),
        sa.Column("token", sa.Text),
        sa.Column("worker", sa.Text),
        sa.Column("delivery", sa.Text),
        sa.Column("models", sa.Text, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("run_at", sa.Double, nullable=False),
        sa.Column("ranked_at", sa.Double, nullable=False),
        sa.Column("changed_at", sa.Double, nullable=False),
        sa.Column("started_at", sa.Double),
        sa.Column("ended_at", sa.Double),
        sa.Column("hidden", sa.Boolean, nullable=False),
        sa.UniqueConstraint("id", name="jobs_id"),
    )
    _partial_index("jobs_live_prompt", ["tenant", "prompt_id"], "ended_at IS NULL", unique=True)
    _partial_index("jobs_slot", ["pool", "vft"], "state = 'queued'")
    _partial_index("jobs_turn", ["pool", "tenant", sa.text("rank DESC"), "number", "seq"], "state = 'queued'")
    _partial_index("jobs_out", ["pool", "state"], "state IN ('released', 'running', 'canceling')")
    _partial_index("jobs_prompt", ["tenant", "hidden", "prompt_id", "ended_at", "seq"], "ended_at IS NOT NULL")
    _partial_index("jobs_history", ["tenant", "hidden", "ended_at", "seq"], "ended_at IS NOT NULL")
    op.create_table(
        "job_requests",
        sa.Column("job", SEQUENCE, sa.ForeignKey("jobs.seq", ondelete="CASCADE"), primary_key=True),
        sa.Column("workflow", sa.Text, nullable=False),
        sa.Column("outputs", sa.Text, nullable=False),
        sa.Column("extra_data", sa.Text, nullable=False),
        sa.Column("inputs", sa.Text, nullable=False),
    )
    op.create_table(
        "job_results",
        sa.Column("job", SEQUENCE, sa.ForeignKey("jobs.seq", ondelete="CASCADE"), primary_key=True),
        sa.Column("result", sa.Text),
        sa.Column("messages", sa.Text, nullable=False),
        sa.Column("error", sa.Text),
    )
    op.create_table(
        "attempts",
        sa.Column("token", sa.Text, primary_key=True),
        sa.Column("job", SEQUENCE, sa.ForeignKey("jobs.seq", ondelete="CASCADE"), nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("worker", sa.Text, nullable=False),
        sa.Column("started_at", sa.Double, nullable=False),
        sa.Column("ended_at", sa.Double),
        sa.Column("outcome", sa.Text),
    )
    op.create_index("attempts_job", "attempts", ["job"])
    op.create_table(
        "files",
        sa.Column("tenant", sa.Text, primary_key=True),
        sa.Column("type", sa.Text, primary_key=True),
        sa.Column("subfolder", sa.Text, primary_key=True),
        sa.Column("filename", sa.Text, primary_key=True),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("size_bytes", sa.BigInteger),
        sa.Column("sha256", sa.Text),
        sa.Column("job_id", sa.Text),
        sa.Column("call", sa.Integer),
        sa.Column("ordinal", sa.Integer),
        sa.Column("created_at", sa.Double, nullable=False),
    )
    op.create_index(
        "files_reserved",
        "files",
        ["job_id", "call"],
        sqlite_where=sa.text("size_bytes IS NULL"),
        postgresql_where=sa.text("size_bytes IS NULL"),
    )
    op.create_table(
        "name_counters",
        sa.Column("tenant", sa.Text, primary_key=True),
        sa.Column("subfolder", sa.Text, primary_key=True),
        sa.Column("prefix", sa.Text, primary_key=True),
        sa.Column("last", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "catalogues",
        sa.Column("pool", sa.Text, primary_key=True),
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("catalogue", sa.Text, nullable=False),
        sa.Column("offered_at", sa.Double, nullable=False),
    )


def _partial_index(name: str, columns: list[str | sa.TextClause], where: str, *, unique: bool = False) -> None:
    op.create_index(name, "jobs", columns, unique=unique, sqlite_where=sa.text(where), postgresql_where=sa.text(where))
