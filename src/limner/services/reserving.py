"""Names for output files that an engine asks for: counted per (tenant, folder, prefix), never one that is in use."""

from __future__ import annotations

import re
from dataclasses import replace

from limner.blobs.keys import attempt_prefix, output_key
from limner.bus.messages import Reserve
from limner.db import files as file_rows
from limner.db.files import FileRow
from limner.db.session import Connection
from limner.errors import BadName
from limner.jobs.model import Job
from limner.services.names import filename_of, folded, subfolder_of

MOST_NAMES = 10_000


def reserve(connection: Connection, job: Job, asked: Reserve, start: int) -> list[FileRow]:
    """The names, in the order of the pictures. `start`: the largest number in use, should nobody have counted yet."""
    key_prefix = attempt_prefix(job.tenant, job.id, asked.token, job.created_at)
    keys = [output_key(key_prefix, asked.call * MOST_NAMES + i, asked.extension) for i in range(asked.count)]
    present = file_rows.reserved(connection, job.id, asked.call)
    if present and _are_for(present, asked):
        moved = [replace(row, key=key) for row, key in zip(present, keys, strict=True)]
        file_rows.rekey(connection, moved)
        return moved
    new = [
        FileRow(
            tenant=job.tenant,
            type="output",
            subfolder=asked.subfolder,
            filename=filename,
            key=keys[i],
            size_bytes=None,
            sha256=None,
            job_id=job.id,
            call=asked.call,
            ordinal=i,
        )
        for i, filename in enumerate(_free_names(connection, job.tenant, asked, start))
    ]
    file_rows.drop_call(connection, job.id, asked.call)
    file_rows.add(connection, new)
    return new


def _are_for(present: list[FileRow], asked: Reserve) -> bool:
    """Whether an earlier attempt's names serve this call too: same folder, prefix, extension and count."""
    return len(present) == asked.count and all(
        row.subfolder == asked.subfolder
        and row.filename.startswith(_in_batch(asked.prefix, i) + "_")
        and row.filename.endswith("_" + asked.extension)
        for i, row in enumerate(present)
    )


def _free_names(connection: Connection, tenant: str, asked: Reserve, start: int) -> list[str]:
    """Numbers go up by one; one whose name was uploaded by hand is passed over."""
    names: list[str] = []
    while len(names) < asked.count:
        numbers = file_rows.count_up(
            connection,
            tenant,
            folded(asked.subfolder),
            folded(asked.prefix),
            start=start,
            count=asked.count - len(names),
        )
        for number in numbers:
            name = f"{_in_batch(asked.prefix, len(names))}_{number:05}_{asked.extension}"
            if file_rows.find(connection, tenant, "output", asked.subfolder, name) is None:
                names.append(name)
    return names


def _in_batch(prefix: str, ordinal: int) -> str:
    return prefix.replace("%batch_num%", str(ordinal))


def fault_of(asked: Reserve) -> str | None:
    """Why there can be no names for this question; None where there can."""
    if not 0 < asked.count <= MOST_NAMES:
        return f"count is {asked.count}, but must be 1 to {MOST_NAMES}"
    if not re.fullmatch(r"(\.[A-Za-z0-9]{1,16})?", asked.extension):
        return f"extension is {asked.extension!r}, but must look like '.png'"
    try:
        filename_of(f"{asked.prefix}_00000_{asked.extension}")
        tidy = subfolder_of(asked.subfolder)
    except BadName as error:
        return error.message
    return None if tidy == asked.subfolder else f"subfolder is {asked.subfolder!r}, write it as {tidy!r}"
