"""Files by the names that callers give them: uploads, and outputs with their reserved names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, insert, select, text, update

from limner.db.hot import Hot
from limner.db.scope import of
from limner.db.tables import files, name_counters


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRow:
    """`size_bytes` and `sha256` are None while the name is only reserved."""

    tenant: str
    type: str
    subfolder: str
    filename: str
    key: str
    size_bytes: int | None
    sha256: str | None
    job_id: str | None = None
    call: int | None = None
    ordinal: int | None = None


_COLUMNS = [c for c in files.c if c.name != "created_at"]


def find(connection: Connection, tenant: str, type: str, subfolder: str, filename: str) -> FileRow | None:
    statement = select(*_COLUMNS).where(
        of(tenant, files), files.c.type == type, files.c.subfolder == subfolder, files.c.filename == filename
    )
    row = connection.execute(statement).one_or_none()
    return None if row is None else FileRow(**row._mapping)


def names(connection: Connection, tenant: str, type: str) -> list[tuple[str, str]]:
    """(subfolder, filename) of all of a tenant's files of a type."""
    statement = select(files.c.subfolder, files.c.filename).where(
        of(tenant, files), files.c.type == type, files.c.size_bytes.is_not(None)
    )
    return [(row.subfolder, row.filename) for row in connection.execute(statement)]


def add(connection: Connection, rows: Sequence[FileRow]) -> None:
    """Raises the database's IntegrityError when a name is taken; look first."""
    connection.execute(insert(files).values(created_at=func.limner_now()), [_values(row) for row in rows])


def replace(connection: Connection, row: FileRow) -> None:
    """Gives a present name other bytes."""
    connection.execute(
        update(files)
        .where(of(row.tenant, files), files.c.type == row.type)
        .where(files.c.subfolder == row.subfolder, files.c.filename == row.filename)
        .values(key=row.key, size_bytes=row.size_bytes, sha256=row.sha256, created_at=func.limner_now())
    )


def reserved(connection: Connection, job_id: str, call: int) -> list[FileRow]:
    """The names that a job reserved with this call, in their order."""
    statement = select(*_COLUMNS).where(files.c.job_id == job_id, files.c.call == call, files.c.size_bytes.is_(None))
    return [FileRow(**row._mapping) for row in connection.execute(statement.order_by(files.c.ordinal))]


_REKEY = text(
    "UPDATE files SET key = :key WHERE tenant = :tenant AND type = :type AND subfolder = :subfolder "
    "AND filename = :filename AND size_bytes IS NULL"
)


def rekey(connection: Connection, rows: Sequence[FileRow]) -> None:
    """Points reserved names to where another attempt will put the bytes."""
    connection.execute(_REKEY, [_values(row) for row in rows])


_CONFIRM = text(
    "UPDATE files SET key = :key, size_bytes = :size_bytes, sha256 = :sha256, created_at = limner_now() "
    "WHERE tenant = :tenant AND type = 'output' AND subfolder = :subfolder AND filename = :filename "
    "AND job_id = :job_id AND size_bytes IS NULL"
)


def confirm(connection: Connection, tenant: str, job_id: str, written: Sequence[Mapping[str, Any]]) -> None:
    """The bytes of reserved names are there: rows of key, subfolder, filename, size_bytes, sha256."""
    if written:
        connection.execute(_CONFIRM, [{"tenant": tenant, "job_id": job_id, **row} for row in written])


_DROP = Hot("DELETE FROM files WHERE job_id = :job_id AND size_bytes IS NULL")
_DROP_CALL = text("DELETE FROM files WHERE job_id = :job_id AND call = :call AND size_bytes IS NULL")


def drop_reserved(connection: Connection, job_id: str) -> None:
    """Frees the names that a job reserved and never wrote."""
    _DROP.run(connection, {"job_id": job_id})


def drop_call(connection: Connection, job_id: str, call: int) -> None:
    """Frees the names that one call reserved."""
    connection.execute(_DROP_CALL, {"job_id": job_id, "call": call})


_DROP_OF_ENDED = text(
    "DELETE FROM files WHERE size_bytes IS NULL "
    "AND NOT EXISTS (SELECT 1 FROM jobs WHERE jobs.id = files.job_id AND jobs.ended_at IS NULL)"
)


def drop_of_ended(connection: Connection) -> int:
    """Frees reserved names of jobs that are over; how many. A job that ends by its worker's report leaves none."""
    return connection.execute(_DROP_OF_ENDED).rowcount


def counter(connection: Connection, tenant: str, subfolder: str, prefix: str) -> int | None:
    """The last number given out under a prefix, None when there was none yet."""
    statement = select(name_counters.c.last).where(
        of(tenant, name_counters), name_counters.c.subfolder == subfolder, name_counters.c.prefix == prefix
    )
    return connection.execute(statement).scalar_one_or_none()


_COUNT_UP = text(
    """
    INSERT INTO name_counters (tenant, subfolder, prefix, last) VALUES (:tenant, :subfolder, :prefix, :start + :count)
    ON CONFLICT (tenant, subfolder, prefix) DO UPDATE SET last = name_counters.last + :count
    RETURNING last
    """
)


def count_up(connection: Connection, tenant: str, subfolder: str, prefix: str, *, start: int, count: int) -> range:
    """The next `count` numbers under a prefix. `start`: the last one in use, should this be the first time."""
    values = {"tenant": tenant, "subfolder": subfolder, "prefix": prefix, "start": start, "count": count}
    last = int(connection.execute(_COUNT_UP, values).scalar_one())
    return range(last - count + 1, last + 1)


_COUNT_FROM = text(
    """
    INSERT INTO name_counters (tenant, subfolder, prefix, last) VALUES (:tenant, :subfolder, :prefix, :last)
    ON CONFLICT (tenant, subfolder, prefix) DO UPDATE SET last = excluded.last
        WHERE name_counters.last < excluded.last
    """
)


def count_from(connection: Connection, tenant: str, subfolder: str, prefix: str, last: int) -> None:
    """Numbers up to `last` are in use under a prefix: none of them is given out any more."""
    connection.execute(_COUNT_FROM, {"tenant": tenant, "subfolder": subfolder, "prefix": prefix, "last": last})


def _values(row: FileRow) -> dict[str, Any]:
    return {c.name: getattr(row, c.name) for c in _COLUMNS}
