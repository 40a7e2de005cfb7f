"""Names for output files that an engine has named itself: their own, as long as that shows nobody other bytes."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from limner.blobs.keys import attempt_prefix
from limner.db import files as rows
from limner.db.files import FileRow
from limner.db.session import Connection
from limner.errors import BadName
from limner.jobs.model import Job
from limner.services.names import LONGEST, filename_of, folded, subfolder_of

NUMBERED = re.compile(r"(?P<prefix>.+)_(?P<number>\d{5,9})_(?P<extension>\.[A-Za-z0-9]{1,16})")
EXTENSION = re.compile(r"\.[A-Za-z0-9]{1,16}$")
SHA256 = re.compile(r"[0-9a-f]{64}")

Starts = Mapping[tuple[str, str], int]
"""(subfolder, prefix) -> the largest number that is in use there, where nobody has counted yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """A file by its engine's own name, checked."""

    subfolder: str
    filename: str
    sha256: str

    @property
    def numbered(self) -> tuple[str, int, str] | None:
        """(prefix, number, extension) of a name like `PREFIX_00001_.png`."""
        found = NUMBERED.fullmatch(self.filename)
        return None if found is None else (found["prefix"], int(found["number"]), found["extension"])

    @property
    def call(self) -> int:
        """Tells the same wish again, in this attempt or another. Below 0, as questions for counted names are above."""
        return -1 - (zlib.crc32(f"{self.subfolder}/{self.filename}".encode()) >> 1)


def wishes(files: list[dict[str, Any]]) -> list[Wish]:
    """Raises BadName for what cannot be a name, or is no digest."""
    found = []
    for file in files:
        sha256 = file["sha256"]
        if not SHA256.fullmatch(sha256):
            raise BadName(f"sha256 is {sha256!r}, but must be 64 hexadecimal digits")
        found.append(
            Wish(subfolder=subfolder_of(file["subfolder"]), filename=filename_of(file["filename"]), sha256=sha256)
        )
    return found


def keep(connection: Connection, job: Job, token: str, wish: Wish, starts: Starts) -> dict[str, str]:
    """The name that a file gets, reserved for this attempt; the same for the same question again.

    Another attempt of the job takes over what an earlier one reserved. An empty key: the tenant has these bytes
    under this name already. A name that is taken gets the next number of its kind, or ` (1)` behind its stem.
    """
    prefix = attempt_prefix(job.tenant, job.id, token, job.created_at)
    key = f"{prefix}{wish.sha256[:32]}{_extension(wish.filename)}"
    earlier = rows.reserved(connection, job.id, wish.call)
    mine = next((row for row in earlier if row.key == key), None)
    if mine is not None:
        return _named(mine)
    left = next((row for row in earlier if not row.key.startswith(prefix)), None)
    if left is not None:
        return _taken_over(connection, left, key)
    present = rows.find(connection, job.tenant, "output", wish.subfolder, wish.filename)
    if present is not None and present.size_bytes is not None and present.sha256 == wish.sha256:
        return _named(replace(present, key=""))
    if present is not None and present.size_bytes is None and present.job_id == job.id:
        if present.key == key:
            return _named(present)
        if not present.key.startswith(prefix):
            return _taken_over(connection, present, key)
    name = wish.filename if present is None else _free_name(connection, job.tenant, wish, starts)
    row = FileRow(
        tenant=job.tenant,
        type="output",
        subfolder=wish.subfolder,
        filename=name,
        key=key,
        size_bytes=None,
        sha256=None,
        job_id=job.id,
        call=wish.call,
        ordinal=len(earlier),
    )
    rows.add(connection, [row])
    if present is None and wish.numbered is not None:
        _count_on(connection, job.tenant, wish, starts)
    return _named(row)


def _taken_over(connection: Connection, row: FileRow, key: str) -> dict[str, str]:
    moved = replace(row, key=key)
    rows.rekey(connection, [moved])
    return _named(moved)


def _free_name(connection: Connection, tenant: str, wish: Wish, starts: Starts) -> str:
    for name in _candidates(connection, tenant, wish, starts):
        if rows.find(connection, tenant, "output", wish.subfolder, name) is None:
            return name
    raise AssertionError("the candidates never end")


def _candidates(connection: Connection, tenant: str, wish: Wish, starts: Starts) -> Iterator[str]:
    """Counted, so that a name that a thousand jobs use is not looked for a thousand times."""
    counted = wish.numbered[0] if wish.numbered is not None else wish.filename
    start = starts.get((wish.subfolder, counted), 0)
    while True:
        [number] = rows.count_up(connection, tenant, folded(wish.subfolder), folded(counted), start=start, count=1)
        if wish.numbered is not None:
            yield f"{counted}_{number:05}_{wish.numbered[2]}"
        else:
            yield _with_number(wish.filename, number)


def _with_number(filename: str, number: int) -> str:
    """`a (1).png`, and not too long."""
    extension = _extension(filename)
    tail = f" ({number}){extension}"
    stem = filename[: len(filename) - len(extension)].encode()
    return stem[: LONGEST - len(tail)].decode(errors="ignore") + tail


def _count_on(connection: Connection, tenant: str, wish: Wish, starts: Starts) -> None:
    """The next counted name of this prefix comes after this one."""
    prefix, number, _ = wish.numbered or ("", 0, "")
    last = max(number, starts.get((wish.subfolder, prefix), 0))
    rows.count_from(connection, tenant, folded(wish.subfolder), folded(prefix), last)


def _extension(filename: str) -> str:
    found = EXTENSION.search(filename)
    return found[0] if found is not None and found.start() > 0 else ""


def _named(row: FileRow) -> dict[str, str]:
    return {"filename": row.filename, "subfolder": row.subfolder, "key": row.key}
