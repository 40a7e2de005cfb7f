"""Alembic's entry: runs the revisions over the connection that upgrade.py hands in, inside its transaction."""

from __future__ import annotations

from alembic import context

from limner.db.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
