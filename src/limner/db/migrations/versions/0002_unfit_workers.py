"""A job knows which workers could not run it. Version N-1 leaves the column alone."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("avoid", sa.Text, nullable=False, server_default="{}"))
