"""A pool has a catalogue for each kind of worker. Version N-1 goes on with the table of its own."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "offered_catalogues",
        sa.Column("pool", sa.Text, primary_key=True),
        sa.Column("digest", sa.Text, primary_key=True),
        sa.Column("current", sa.Boolean, nullable=False),
        sa.Column("seen_at", sa.Double, nullable=False),
        sa.Column("catalogue", sa.Text, nullable=False),
    )
    op.execute(
        "INSERT INTO offered_catalogues (pool, digest, catalogue, current, seen_at) "
        "SELECT pool, digest, catalogue, true, offered_at FROM catalogues"
    )
