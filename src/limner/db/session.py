"""The database: transactions as plain functions over a connection.

`write` hands a function to the one thread that writes; whatever waits there is committed together (each function
in a savepoint of its own, so that one's fault undoes that one alone), which saves a disk sync per job when many
come at once. A commit is on disk before `write` returns, except where the caller can do without (`durable=False`):
that one survives any crash of any process, and a power cut takes it back unless a durable one came after it.
`read` runs on a few threads beside it and sees everything committed before it began.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError

from limner import logs
from limner.db.migrations.upgrade import upgrade
from limner.errors import Misconfigured, Unavailable

__all__ = ["Connection", "Database"]

log = logs.get("limner.db")

T = TypeVar("T")

READERS = 2
BATCH = 64
BUSY_TIMEOUT_SECONDS = 5.0


@dataclass(slots=True)
class _Job:
    """A transaction on its way to the writing thread and back."""

    work: Callable[[Connection], Any]
    done: asyncio.Future[Any]
    durable: bool
    value: Any = None
    error: Exception | None = None


class Database:
    """SQLite in WAL mode, each durable commit on disk (synchronous=FULL). Opened with `open`, closed with `close`."""

    def __init__(self, path: str) -> None:
        self._loop = asyncio.get_running_loop()
        self._write_engine = _engine(path, begin="BEGIN IMMEDIATE")
        self._read_engine = _engine(path, begin="BEGIN")
        self._connection: Connection
        self._inbox: SimpleQueue[_Job | None] = SimpleQueue()
        self._writer = threading.Thread(target=self._write_until_closed, name="limner-db-writer", daemon=True)
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="limner-db-reader")
        self._closed = False

    @classmethod
    async def open(cls, url: str) -> Database:
        """Opens the database at `sqlite:///PATH`, making and migrating it. Raises Misconfigured when it cannot."""
        database = cls(_sqlite_path(url))
        try:
            database._connection = await asyncio.to_thread(database._write_engine.connect)
        except (DBAPIError, sqlite3.Error) as error:
            raise Misconfigured(f"The database {url} cannot be opened: {getattr(error, 'orig', error)}") from error
        database._writer.start()
        try:
            await database.write(upgrade)
        except BaseException:
            await database.close()
            raise
        return database

    async def write(self, work: Callable[[Connection], T], *, durable: bool = True) -> T:
        """Runs `work` in one transaction and returns its value once that is on disk. `work` must not wait for anything.

        durable: False where a power cut may undo it, because what follows from it would be undone with it.

        What `work` raises undoes it and is raised here. Raises Unavailable when the database cannot be written now.
        """
        if self._closed:
            raise Unavailable("The database is closed.")
        done: asyncio.Future[T] = self._loop.create_future()
        self._inbox.put(_Job(work, done, durable))
        return await done

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Runs `work`, which must not write, over a snapshot of what is committed now."""
        if self._closed:
            raise Unavailable("The database is closed.")
        return await self._loop.run_in_executor(self._readers, self._read, work)

    async def close(self) -> None:
        """Finishes what was handed in, then closes."""
        if self._closed:
            return
        self._closed = True
        self._inbox.put(None)
        await asyncio.to_thread(self._writer.join)
        await asyncio.to_thread(self._readers.shutdown)
        self._read_engine.dispose()
        self._write_engine.dispose()

    def _read(self, work: Callable[[Connection], T]) -> T:
        try:
            with self._read_engine.connect() as connection:
                return work(connection)
        except (DBAPIError, sqlite3.Error) as error:
            raise _plain(error) from error

    def _write_until_closed(self) -> None:
        with self._connection:
            while (first := self._inbox.get()) is not None:
                jobs, closing = self._with_those_waiting(first)
                self._commit(jobs)
                self._loop.call_soon_threadsafe(_answer, jobs)
                if closing:
                    return

    def _with_those_waiting(self, first: _Job) -> tuple[list[_Job], bool]:
        jobs = [first]
        while len(jobs) < BATCH:
            try:
                job = self._inbox.get_nowait()
            except Empty:
                return jobs, False
            if job is None:
                return jobs, True
            jobs.append(job)
        return jobs, False

    def _commit(self, jobs: list[_Job]) -> None:
        connection = self._connection
        driver: Any = connection.connection.driver_connection
        durable = any(job.durable for job in jobs)
        try:
            driver.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
            with connection.begin():
                if len(jobs) == 1:
                    jobs[0].value = jobs[0].work(connection)
                else:
                    for job in jobs:
                        _run_in_savepoint(connection, driver, job)
        except Exception as error:
            plain = _plain(error)
            for job in jobs:
                job.error = job.error or plain
            _give_up(driver)


def _run_in_savepoint(connection: Connection, driver: Any, job: _Job) -> None:
    """SQLAlchemy's own begin_nested() would take longer than most of our transactions."""
    driver.execute("SAVEPOINT one")
    try:
        job.value = job.work(connection)
    except Exception as error:  # a fault in one transaction must not undo its neighbours
        if not driver.in_transaction:  # SQLite itself gave up on all of them, as on a full disk
            raise
        job.error = _plain(error)
        driver.execute("ROLLBACK TO one")
    driver.execute("RELEASE one")


def _give_up(driver: Any) -> None:
    """A COMMIT that failed leaves its transaction open, and no other could begin."""
    try:
        if driver.in_transaction:
            driver.rollback()
    except sqlite3.Error as error:
        log.error("a transaction could not be undone", error=str(error))


def _answer(jobs: list[_Job]) -> None:
    for job in jobs:
        if job.done.done():  # the caller went away; its transaction holds all the same
            continue
        if job.error is not None:
            job.done.set_exception(job.error)
        else:
            job.done.set_result(job.value)


def _plain(error: Exception) -> Exception:
    """The database's own words, without the statement. A full disk or a lock is Unavailable, a bug stays what it is.

    The driver's errors come bare where it is used without SQLAlchemy.
    """
    if isinstance(error, DBAPIError | sqlite3.Error) and type(error).__name__ in ("OperationalError", "InterfaceError"):
        return Unavailable(f"The database cannot be used now: {getattr(error, 'orig', error)}")
    return error


def _sqlite_path(url: str) -> str:
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise Misconfigured(
            f"The database URL {url!r} cannot be read. Write it like sqlite:////var/lib/limner/limner.db"
        ) from error
    if parsed.get_backend_name() != "sqlite" or not parsed.database or parsed.database == ":memory:":
        raise Misconfigured(
            f"The database URL {parsed.render_as_string()!r} names no SQLite file. "
            "This version keeps its jobs in SQLite only: write it like sqlite:////var/lib/limner/limner.db"
        )
    if not Path(parsed.database).parent.is_dir():
        raise Misconfigured(f"The database {parsed.database} cannot be made: its folder does not exist.")
    return parsed.database


def _engine(path: str, *, begin: str) -> Engine:
    engine = create_engine(
        f"sqlite:///{path}",
        pool_size=READERS,
        connect_args={"check_same_thread": False, "timeout": BUSY_TIMEOUT_SECONDS},
    )

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # transactions are begun below, not by the driver
        connection.create_function("limner_now", 0, time.time)
        for pragma in (
            "journal_mode=WAL",
            "synchronous=FULL",
            "foreign_keys=ON",
            "temp_store=MEMORY",
            "cache_size=-16000",
        ):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin_transaction(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine
