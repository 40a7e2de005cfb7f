"""A blob store in memory, for tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from limner.errors import Conflict, NotFound


class MemoryStore:
    def __init__(self) -> None:
        self._blobs: dict[str, bytes] = {}
        self._written_at: dict[str, datetime] = {}

    async def put(
        self,
        key: str,
        data: bytes | Path,
        *,
        create: bool = False,
        durable: bool = True,  # noqa: ARG002 - the port's signature
    ) -> None:
        body = await asyncio.to_thread(data.read_bytes) if isinstance(data, Path) else bytes(data)
        if create and key in self._blobs:
            raise Conflict(f"There is a blob {key} already.", key=key)
        self._blobs[key] = body
        self._written_at[key] = datetime.now(UTC)

    async def get(self, key: str) -> bytes:
        try:
            return self._blobs[key]
        except KeyError:
            raise NotFound(f"There is no blob {key}.", key=key) from None

    async def stream(self, key: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        piece = (await self.get(key))[start:end]
        if piece:
            yield piece

    async def size(self, key: str) -> int | None:
        return len(self._blobs[key]) if key in self._blobs else None

    async def fetch(self, key: str, path: Path) -> None:
        await asyncio.to_thread(path.write_bytes, await self.get(key))

    async def delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            self._blobs.pop(key, None)
            self._written_at.pop(key, None)

    async def list(self, prefix: str, *, before: datetime | None = None) -> list[str]:
        under = (key for key in self._blobs if key.startswith(prefix.rstrip("/") + "/"))
        return sorted(key for key in under if before is None or self._written_at[key] < before)

    async def folders(self, prefix: str) -> Sequence[str]:
        parts = len(prefix.rstrip("/").split("/"))
        found = (key.split("/") for key in await self.list(prefix))
        return sorted({key[parts] for key in found if len(key) > parts + 1})

    def local_path(self, key: str) -> Path | None:  # noqa: ARG002 - the port's signature
        return None
