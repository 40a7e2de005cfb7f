"""Transactions: committed together, undone alone."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.exc import IntegrityError

from limner.db.migrations.upgrade import HEAD
from limner.db.session import Database
from limner.db.tables import metadata
from limner.errors import Conflict, Misconfigured, Unavailable

INSERT = text("INSERT INTO pools (pool, vft) VALUES (:pool, 0.0)")


def add(pool: str) -> Callable[[Connection], str]:
    def work(connection: Connection) -> str:
        connection.execute(INSERT, {"pool": pool})
        if pool.startswith("bad"):
            raise Conflict(pool)
        return pool

    return work


def pools(connection: Connection) -> list[str]:
    return list(connection.execute(text("SELECT pool FROM pools ORDER BY pool")).scalars())


async def test_writes_are_seen_by_the_next_read_and_after_reopening(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/x.db"
    db = await Database.open(url)
    assert await db.write(add("a")) == "a"
    assert await db.read(pools) == ["a"]
    await db.close()
    db = await Database.open(url)
    assert await db.read(pools) == ["a"]
    await db.close()


async def test_a_fault_undoes_its_own_transaction_only(tmp_path: Path) -> None:
    """All of these wait together, and so are committed together."""
    db = await Database.open(f"sqlite:///{tmp_path}/x.db")
    gate = threading.Event()
    blocker = asyncio.create_task(db.write(lambda connection: gate.wait(10)))
    names = ["a", "bad1", "b", "a", "bad2", "c"]
    writes = [asyncio.create_task(db.write(add(name), durable=name != "b")) for name in names]
    await asyncio.sleep(0)
    gate.set()
    results = await asyncio.gather(*writes, return_exceptions=True)
    assert await blocker
    assert [type(r).__name__ for r in results] == ["str", "Conflict", "str", "IntegrityError", "Conflict", "str"]
    assert await db.read(pools) == ["a", "b", "c"]
    await db.close()


async def test_a_fault_alone_is_undone_as_well(tmp_path: Path) -> None:
    db = await Database.open(f"sqlite:///{tmp_path}/x.db")
    with pytest.raises(Conflict):
        await db.write(add("bad"))
    assert await db.read(pools) == []
    await db.close()


async def test_a_commit_that_fails_ends_its_transaction(tmp_path: Path) -> None:
    db = await Database.open(f"sqlite:///{tmp_path}/x.db")

    def orphan(connection: Connection) -> None:
        connection.execute(text("PRAGMA defer_foreign_keys = ON"))
        connection.execute(
            text("INSERT INTO attempts (token, job, number, worker, started_at) VALUES ('t', 9, 1, 'w', 0)")
        )

    with pytest.raises(IntegrityError):
        await db.write(orphan)
    assert await db.write(add("a")) == "a"
    assert await db.read(pools) == ["a"]
    await db.close()


async def test_a_fault_of_the_bare_driver_is_told_as_unavailable(tmp_path: Path) -> None:
    db = await Database.open(f"sqlite:///{tmp_path}/x.db")

    def fail(_connection: Connection) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    for use in (db.write, db.read):
        with pytest.raises(Unavailable, match="disk I/O error"):
            await use(fail)
    await db.close()


async def test_a_caller_that_went_away_does_not_disturb_the_others(tmp_path: Path) -> None:
    db = await Database.open(f"sqlite:///{tmp_path}/x.db")
    gate = threading.Event()
    blocker = asyncio.create_task(db.write(lambda connection: gate.wait(10)))
    gone, stays = asyncio.create_task(db.write(add("gone"))), asyncio.create_task(db.write(add("stays")))
    await asyncio.sleep(0)
    gone.cancel()
    gate.set()
    assert await stays == "stays"
    await blocker
    assert await db.read(pools) == ["gone", "stays"]
    await db.close()


async def test_closing_finishes_what_was_handed_in(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/x.db"
    db = await Database.open(url)
    writes = [asyncio.create_task(db.write(add(f"p{n:02}"))) for n in range(20)]
    await asyncio.sleep(0)
    await db.close()
    await asyncio.gather(*writes)
    with pytest.raises(Unavailable):
        await db.write(add("late"))
    with pytest.raises(Unavailable):
        await db.read(pools)
    db = await Database.open(url)
    assert len(await db.read(pools)) == 20
    await db.close()


async def test_the_tables_are_what_the_migrations_make(tmp_path: Path) -> None:
    db = await Database.open(f"sqlite:///{tmp_path}/x.db")

    def differences(connection: Connection) -> list[object]:
        return list(compare_metadata(MigrationContext.configure(connection), metadata))

    assert await db.read(differences) == []
    assert await db.read(lambda c: c.execute(text("SELECT version_num FROM alembic_version")).scalar()) == HEAD
    await db.close()


def test_head_is_the_newest_revision() -> None:
    import limner.db.migrations.upgrade as upgrade

    assert ScriptDirectory(str(Path(upgrade.__file__).parent)).get_current_head() == HEAD


async def test_a_database_of_a_newer_version_is_left_as_it_is(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/x.db"
    db = await Database.open(url)
    await db.write(lambda connection: connection.execute(text("UPDATE alembic_version SET version_num = '9999'")))
    await db.close()
    db = await Database.open(url)
    assert await db.read(pools) == []
    await db.close()


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("sqlite:////nowhere/at/all/x.db", "does not exist"),
        ("sqlite://", "names no SQLite file"),
        ("postgresql://host/x", "SQLite only"),
        ("nonsense", "cannot be read"),
        ("sqlite:///{folder}", "cannot be opened"),
        ("sqlite:///{folder}/text", "cannot be opened"),
    ],
)
async def test_a_database_that_cannot_be_opened_is_told_plainly(tmp_path: Path, url: str, says: str) -> None:
    (tmp_path / "text").write_text("this is no database, but a rather long text about something else" * 100)
    with pytest.raises(Misconfigured, match=says):
        await Database.open(url.format(folder=tmp_path))


async def test_a_password_does_not_get_into_the_message() -> None:
    with pytest.raises(Misconfigured) as caught:
        await Database.open("postgresql://user:secret@host/x")
    assert "secret" not in str(caught.value)
