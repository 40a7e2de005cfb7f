"""The blob store: bytes under keys. Adapters: folders and object stores through obstore, and memory for tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Protocol


class BlobStore(Protocol):
    """Keys are `/`-joined parts of letters, digits, `-`, `_` and `.`; see keys.py. A blob appears whole or not at all.

    Reading a missing key raises NotFound, a store that does not answer Unavailable.
    """

    async def put(self, key: str, data: bytes | Path, *, create: bool = False, durable: bool = True) -> None:
        """Writes a blob, durable when this returns. `create`: raises Conflict when the key is taken.

        Not `durable`: readable when this returns, but a power cut may lose it.
        """
        ...

    async def get(self, key: str) -> bytes: ...

    def stream(self, key: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """The bytes from `start` up to but without `end`, in pieces of moderate size."""
        ...

    async def size(self, key: str) -> int | None:
        """None when there is no such blob."""
        ...

    async def fetch(self, key: str, path: Path) -> None:
        """Copies a blob into a local file (whole or not at all)."""
        ...

    async def delete(self, keys: Iterable[str]) -> None:
        """Missing keys are no fault."""
        ...

    async def list(self, prefix: str, *, before: datetime | None = None) -> list[str]:
        """All keys under a folder-like prefix, sorted; with `before` those last written before that time."""
        ...

    async def folders(self, prefix: str) -> Sequence[str]:
        """The next parts of the keys under a folder-like prefix, sorted; not those of blobs right under it."""
        ...

    def local_path(self, key: str) -> Path | None:
        """The blob's own file where the store is a local folder (for hard links; never write to it), else None."""
        ...
