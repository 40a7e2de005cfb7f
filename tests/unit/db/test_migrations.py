"""What a database of an older version becomes."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config

import limner.db.migrations.upgrade as upgrade
from limner.bus.messages import Done, Resume
from limner.db import catalogues, files
from limner.db.session import Database
from limner.dispatch.sweep import Sweep
from tests.support.durable import durable


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


JOB = """
    INSERT INTO jobs (id, tenant, pool, lane, prompt_id, number, number_given, priority, rank, vft, state, epoch,
        attempts, losses, token, worker, delivery, models, created_at, run_at, ranked_at, changed_at, started_at,
        ended_at, hidden)
    VALUES ('{id}', 'default', 'default', 'any', 'p {id}', 1, false, 0, 0, 1.0, '{state}', 0, 1, 0, {token}, {worker},
        {delivery}, '[]', 1.0, 0.0, 1.0, 1.0, 1.0, {ended}, false)
"""
REQUEST = "INSERT INTO job_requests SELECT seq, '{\"1\": {}}', '[\"1\"]', '{}', '[]' FROM jobs"
RESULT = "INSERT INTO job_results SELECT seq, '{\"outputs\": {}}', '[]', NULL FROM jobs WHERE ended_at IS NOT NULL"


def job(id: str, state: str, *, ended: bool = False, held: bool = False) -> str:
    """`held`: by the worker `w`, under a delivery and a token of its own."""
    names = {name: f"'{name} of {id}'" if held else "NULL" for name in ("token", "delivery")}
    return JOB.format(id=id, state=state, ended="2.0" if ended else "NULL", worker="'w'" if held else "NULL", **names)


async def test_a_filled_database_goes_on_where_it_was(tmp_path: Path) -> None:
    """From the first tables to the newest: what waits is claimed, what runs is finished, what ended stays."""
    make(
        tmp_path / "limner.db",
        "0001",
        "INSERT INTO tenants VALUES ('default', 5, 5.0, 1.0, 4)",
        job("queued", "queued"),
        job("out", "released"),
        job("running", "running", held=True),
        job("stopping", "canceling", held=True),
        job("ended", "succeeded", ended=True, held=True),
        REQUEST,
        RESULT,
        "INSERT INTO attempts VALUES ('token of running', (SELECT seq FROM jobs WHERE id = 'running'), 1, 'w', 1.0, "
        "NULL, NULL)",
        "INSERT INTO files VALUES ('default', 'output', '', 'a.png', 'k', 1, 'x', 'ended', 1, 0, 1.0)",
        "INSERT INTO name_counters VALUES ('default', '', 'a', 7)",
        "INSERT INTO catalogues VALUES ('default', 'd', '{}', 1.0)",
    )
    async with durable(tmp_path) as d:
        assert await d.db.read(lambda c: catalogues.stored(c, "default")) == {"d": True}
        assert await d.db.read(lambda c: files.counter(c, "default", "", "a")) == 7
        assert await d.db.read(lambda c: files.find(c, "default", "output", "", "a.png")) is not None
        [entry] = await d.jobs.history("default")
        assert (entry.id, entry.avoid) == ("ended", {})
        had = (await d.attempts.resume(Resume(worker="w"))).jobs
        assert {(each["id"], each["delivery"]) for each in had} == {
            ("running", "delivery of running"),
            ("stopping", "delivery of stopping"),
        }
        for id in ("running", "stopping"):
            assert (await d.attempts.done(Done(id=id, token=f"token of {id}", outcome="succeeded"))).ok
        await Sweep(d.db, d.bus, d.release).run_once()
        await d.release.run_once()
        for _ in range(2):
            taken = await d.take()
            assert taken is not None
            assert taken[1].workflow == {"1": {}}
            assert (await d.end(*taken)).ok
        assert await d.jobs.remaining("default") == 0
        assert len(await d.jobs.history("default")) == 5


async def test_the_catalogue_that_a_pool_had_is_its_current_one(tmp_path: Path) -> None:
    make(tmp_path / "x.db", "0002", "INSERT INTO catalogues VALUES ('default', 'd', '{}', 1.0)")
    db = await Database.open(f"sqlite:///{tmp_path}/x.db")
    await db.write(catalogues.forget_unseen)
    assert await db.read(lambda c: catalogues.stored(c, "default")) == {"d": True}
    assert await db.read(lambda c: catalogues.load(c, "default", "d")) == "{}"
    await db.close()
