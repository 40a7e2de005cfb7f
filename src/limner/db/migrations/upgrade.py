"""Brings a database to this version's tables."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, inspect, text

HEAD = "0003"
"""The newest revision in versions/. Revisions are numbered, so that older code knows a newer database."""


def upgrade(connection: Connection) -> None:
    """Runs the migrations that the database lacks. One that is newer is left alone: version N works beside N-1."""
    if inspect(connection).has_table("alembic_version"):
        revision = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
        if revision is not None and revision >= HEAD:
            return
    from alembic import command  # takes a third of a second to import; most starts do without
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
