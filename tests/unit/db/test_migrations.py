"""What a database of an older version becomes."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config

import limner.db.migrations.upgrade as upgrade
from limner.db import catalogues
from limner.db.session import Database


def make(path: Path, revision: str, *statements: str) -> None:
    """A database as that revision had it, with what these statements put in."""
    engine = sa.create_engine(f"sqlite:///{path}")
    config = Config()
    config.set_main_option("script_location", str(Path(upgrade.__file__).parent))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
        for statement in statements:
            connection.execute(sa.text(statement))
    engine.dispose()


async def test_the_catalogue_that_a_pool_had_is_its_current_one(tmp_path: Path) -> None:
    make(tmp_path / "x.db", "0002", "INSERT INTO catalogues VALUES ('default', 'd', '{}', 1.0)")
    db = await Database.open(f"sqlite:///{tmp_path}/x.db")
    await db.write(catalogues.forget_unseen)
    assert await db.read(lambda c: catalogues.stored(c, "default")) == {"d": True}
    assert await db.read(lambda c: catalogues.load(c, "default", "d")) == "{}"
    await db.close()
