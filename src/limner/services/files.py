"""Files that callers name: uploads, inputs of jobs, outputs to look at."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from limner.blobs.keys import input_key, temp_key
from limner.blobs.port import BlobStore
from limner.db import files as rows
from limner.db.files import FileRow
from limner.db.session import Connection, Database
from limner.errors import BadName, Conflict, NotFound
from limner.jobs.model import InputFile
from limner.services.names import TYPES, filename_of, reference_of, subfolder_of

PIECE = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFile:
    key: str
    size_bytes: int


class FileStore:
    """Names stand in SQL, bytes in the blob store. Temp files are the exception: their key follows from their name."""

    def __init__(self, db: Database, blobs: BlobStore) -> None:
        self._db = db
        self._blobs = blobs

    async def upload(
        self, tenant: str, *, folder: str, subfolder: str, filename: str, data: bytes | Path, overwrite: bool = False
    ) -> dict[str, str]:
        """Keeps a file under the name it gets; the answer is `{"name", "subfolder", "type"}`.

        folder: "input", "temp" or "output". A name that is taken stays as it is, unless `overwrite`: the same bytes
        get the same name, others become `STEM (1).EXT`, `STEM (2).EXT` ... Raises BadName.
        """
        if folder not in TYPES:
            raise BadName(f"There is no folder {folder!r}. Use one of {', '.join(TYPES)}.", name=folder)
        place, name = subfolder_of(subfolder), filename_of(filename)
        size, sha256 = await asyncio.to_thread(_measure, data)
        if folder == "temp":
            kept = await self._upload_temp(tenant, place, name, data, sha256, overwrite=overwrite)
        else:
            key = input_key(tenant, sha256)
            await self._blobs.put(key, data)
            row = FileRow(
                tenant=tenant, type=folder, subfolder=place, filename=name, key=key, size_bytes=size, sha256=sha256
            )
            kept = await self._db.write(lambda connection: _keep(connection, row, overwrite=overwrite))
        return {"name": kept, "subfolder": place, "type": folder}

    async def find(self, tenant: str, *, type: str, subfolder: str, filename: str) -> StoredFile | None:
        """Where a file's bytes lie, from when they are there: a running job's outputs are found before it ends.

        None for an unknown name, and for one that is reserved but not written yet. Raises BadName for names that
        leave their place.
        """
        row = await self._find(tenant, type, subfolder_of(subfolder), filename_of(filename))
        if row is None:
            return None
        size = row.size_bytes if row.size_bytes is not None else await self._blobs.size(row.key)
        return None if size is None else StoredFile(key=row.key, size_bytes=size)

    async def input_names(self, tenant: str) -> list[str]:
        """Every input file as a workflow would name it (`a.png`, `sub/a.png`), sorted."""
        found = await self._db.read(lambda connection: rows.names(connection, tenant, "input"))
        return sorted(f"{subfolder}/{name}" if subfolder else name for subfolder, name in found)

    async def present(self, tenant: str, references: Iterable[str]) -> list[str]:
        """Those of these references (see `resolve`) that name a file which is there."""
        wanted = dict.fromkeys(references)
        return [reference for reference in wanted if await self._locate(tenant, reference) is not None]

    async def resolve(self, tenant: str, references: Iterable[str]) -> list[InputFile]:
        """The files that a workflow names (`a.png`, `sub/a.png`, `a.png [output]`).

        Raises NotFound with all that are missing or badly named as `details["references"]`.
        """
        found: list[InputFile] = []
        missing: list[str] = []
        for reference in dict.fromkeys(references):
            file = await self._resolve(tenant, reference)
            if file is None:
                missing.append(reference)
            else:
                found.append(file)
        if missing:
            raise NotFound(f"There is no input file named {', '.join(map(repr, missing))}.", references=missing)
        return found

    async def _resolve(self, tenant: str, reference: str) -> InputFile | None:
        found = await self._locate(tenant, reference)
        if found is None:
            return None
        row, size = found
        sha256 = row.sha256 or hashlib.sha256(await self._blobs.get(row.key)).hexdigest()
        return InputFile(reference=reference, key=row.key, sha256=sha256, size_bytes=size)

    async def _locate(self, tenant: str, reference: str) -> tuple[FileRow, int] | None:
        """The file's row and size; None where it is missing, only reserved, or badly named."""
        try:
            kind, subfolder, filename = reference_of(reference)
        except BadName:
            return None  # told to the caller with the missing ones
        row = await self._find(tenant, kind, subfolder, filename)
        return None if row is None or row.size_bytes is None else (row, row.size_bytes)

    async def _find(self, tenant: str, kind: str, subfolder: str, filename: str) -> FileRow | None:
        if kind != "temp":
            return await self._db.read(lambda connection: rows.find(connection, tenant, kind, subfolder, filename))
        key = temp_key(tenant, subfolder, filename)
        size = await self._blobs.size(key)
        return FileRow(
            tenant=tenant, type=kind, subfolder=subfolder, filename=filename, key=key, size_bytes=size, sha256=None
        )

    async def _upload_temp(
        self, tenant: str, subfolder: str, filename: str, data: bytes | Path, sha256: str, *, overwrite: bool
    ) -> str:
        if overwrite:
            await self._blobs.put(temp_key(tenant, subfolder, filename), data)
            return filename
        for name in _candidates(filename):
            key = temp_key(tenant, subfolder, name)
            try:
                await self._blobs.put(key, data, create=True)
            except Conflict:
                if hashlib.sha256(await self._blobs.get(key)).hexdigest() != sha256:
                    continue
            return name
        raise AssertionError("the candidates never end")


def _keep(connection: Connection, row: FileRow, *, overwrite: bool) -> str:
    """Gives the row the first name that is free, or that holds the same bytes already."""
    for name in _candidates(row.filename):
        present = rows.find(connection, row.tenant, row.type, row.subfolder, name)
        named = FileRow(
            tenant=row.tenant,
            type=row.type,
            subfolder=row.subfolder,
            filename=name,
            key=row.key,
            size_bytes=row.size_bytes,
            sha256=row.sha256,
        )
        if present is None:
            rows.add(connection, [named])
            return name
        if present.sha256 == row.sha256:
            return name
        if overwrite and present.size_bytes is not None:
            rows.replace(connection, named)
            return name
    raise AssertionError("the candidates never end")


def _candidates(filename: str) -> Iterator[str]:
    yield filename
    stem, extension = os.path.splitext(filename)  # noqa: PTH122 - a name, not a path
    number = 1
    while True:
        yield f"{stem} ({number}){extension}"
        number += 1


def _measure(data: bytes | Path) -> tuple[int, str]:
    """(size, sha256)"""
    if isinstance(data, bytes):
        return len(data), hashlib.sha256(data).hexdigest()
    digest, size = hashlib.sha256(), 0
    with data.open("rb") as file:
        while piece := file.read(PIECE):
            digest.update(piece)
            size += len(piece)
    return size, digest.hexdigest()
