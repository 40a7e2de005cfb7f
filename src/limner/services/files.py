"""Files that callers name: uploads, inputs of jobs, outputs to look at."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from limner.blobs.port import BlobStore
from limner.db.session import Database
from limner.jobs.model import InputFile


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFile:
    key: str
    size_bytes: int


class FileStore:
    def __init__(self, db: Database, blobs: BlobStore) -> None: ...

    async def upload(
        self, tenant: str, *, folder: str, subfolder: str, filename: str, data: bytes | Path, overwrite: bool = False
    ) -> dict[str, str]:
        """Keeps a file under the name it gets; the answer is WIRE 2.8's `{"name", "subfolder", "type"}`.

        Raises BadName for a bad folder, subfolder or name.
        """
        ...

    async def find(self, tenant: str, *, type: str, subfolder: str, filename: str) -> StoredFile | None: ...

    async def input_names(self, tenant: str) -> list[str]:
        """Every input file as a workflow would name it (`a.png`, `sub/a.png`), sorted."""
        ...

    async def resolve(self, tenant: str, references: Iterable[str]) -> list[InputFile]:
        """The files that a workflow names. Raises NotFound (details: `references`, all the missing ones)."""
        ...
