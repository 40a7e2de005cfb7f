"""Blobs in a local folder or in any object store that obstore opens (S3, GCS, Azure ...)."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.exceptions import NotFoundError as ObstoreNotFound
from obstore.store import LocalStore, from_url

from limner.errors import Conflict, LimnerError, Misconfigured, NotFound, Unavailable

PIECE = 512 * 1024
QUICK_BYTES = 256 * 1024
FOLDER = "file"


class ObjectStore:
    """`url`: `file:///var/lib/limner/store`, `s3://bucket/prefix`, `gs://...`, `az://...`; credentials come from
    the environment.

    In a local folder every blob is a plain file under its key, made under a temporary name (beginning with `.`)
    and renamed once it is on the disk.
    """

    def __init__(self, url: str) -> None:
        """Raises Misconfigured for a URL that cannot be opened."""
        self._folder: Path | None = None
        self._store: Any
        try:
            if urlsplit(url).scheme == FOLDER:
                self._folder = Path(unquote(urlsplit(url).path))
                self._folder.mkdir(parents=True, exist_ok=True)
                self._store = LocalStore(prefix=self._folder, automatic_cleanup=True)
            else:
                self._store = from_url(url)
        except (BaseError, ValueError, OSError) as error:
            reason = str(error).partition("\n")[0]  # the rest is a dump for programmers
            raise Misconfigured(f"The store {url!r} (LIMNER_STORE_URL) cannot be opened: {reason}") from error

    async def put(self, key: str, data: bytes | Path, *, create: bool = False, durable: bool = True) -> None:
        if self._folder is not None:
            if not durable and isinstance(data, bytes) and len(data) <= QUICK_BYTES:
                _write_local(self._local(key), data, create, durable)  # quicker than the way to a thread
                return
            await asyncio.to_thread(_write_local, self._local(key), data, create, durable)
            return
        try:
            await obstore.put_async(self._store, key, data, mode="create" if create else "overwrite")
        except (BaseError, OSError) as error:
            raise _plain(error, key) from error

    async def get(self, key: str) -> bytes:
        if self._folder is not None:
            return await asyncio.to_thread(_read_local, self._local(key), key)
        try:
            return bytes(await (await obstore.get_async(self._store, key)).bytes_async())
        except (BaseError, OSError) as error:
            raise _plain(error, key) from error

    async def stream(self, key: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        try:
            size = (await obstore.head_async(self._store, key))["size"]
            stop = size if end is None else min(end, size)
            while start < stop:
                piece = await obstore.get_range_async(self._store, key, start=start, end=min(start + PIECE, stop))
                start += len(piece)
                yield bytes(piece)
        except (BaseError, OSError) as error:
            raise _plain(error, key) from error

    async def size(self, key: str) -> int | None:
        try:
            return int((await obstore.head_async(self._store, key))["size"])
        except (BaseError, OSError) as error:
            plain = _plain(error, key)
            if isinstance(plain, NotFound):
                return None
            raise plain from error

    async def fetch(self, key: str, path: Path) -> None:
        part = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        try:
            with await asyncio.to_thread(part.open, "wb") as file:
                async for piece in self.stream(key):
                    await asyncio.to_thread(file.write, piece)
            await asyncio.to_thread(part.replace, path)
        finally:
            await asyncio.to_thread(part.unlink, missing_ok=True)

    async def delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            try:
                await obstore.delete_async(self._store, key)
            except (BaseError, OSError) as error:
                plain = _plain(error, key)
                if not isinstance(plain, NotFound):
                    raise plain from error

    async def list(self, prefix: str, *, before: datetime | None = None) -> list[str]:
        try:
            pages = obstore.list(self._store, prefix=prefix.rstrip("/"), chunk_size=1000)
            metas = [meta async for page in pages for meta in page]
            found = [str(meta["path"]) for meta in metas if before is None or meta["last_modified"] < before]
        except (BaseError, OSError) as error:
            raise _plain(error, prefix) from error
        return sorted(key for key in found if not key.rsplit("/", 1)[-1].startswith("."))

    async def folders(self, prefix: str) -> Sequence[str]:
        try:
            found = await obstore.list_with_delimiter_async(self._store, prefix=prefix.rstrip("/"))
        except (BaseError, OSError) as error:
            raise _plain(error, prefix) from error
        return sorted(str(folder).rstrip("/").rsplit("/", 1)[-1] for folder in found["common_prefixes"])

    def local_path(self, key: str) -> Path | None:
        return None if self._folder is None else self._local(key)

    def _local(self, key: str) -> Path:
        assert self._folder is not None
        return self._folder / key


def _write_local(path: Path, data: bytes | Path, create: bool, durable: bool) -> None:
    """obstore's own writing does not sync the file before it appears under its name."""
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        try:
            try:
                _write(part, data, durable)
            except FileNotFoundError:  # another's delete may remove a folder that is empty as soon as it was made
                _write(part, data, durable)
            if create:
                _name_first(part, path)
            else:
                part.replace(path)
        finally:
            part.unlink(missing_ok=True)
        if durable:
            _sync_folder(path.parent)
    except OSError as error:
        raise Unavailable(f"The store cannot be written: {error}") from error


def _write(path: Path, data: bytes | Path, durable: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        if isinstance(data, Path):
            with data.open("rb") as source:
                shutil.copyfileobj(source, file, PIECE)
        else:
            file.write(data)
        if durable:
            file.flush()
            os.fsync(file.fileno())


def _name_first(part: Path, path: Path) -> None:
    """A hard link, unlike a rename, is refused where the name is taken."""
    try:
        path.hardlink_to(part)
    except FileExistsError as error:
        raise Conflict(f"There is a blob {path.name} already.", key=path.name) from error


def _sync_folder(folder: Path) -> None:
    """A new name is durable once its folder is. Windows has no such call and does not need it."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read_local(path: Path, key: str) -> bytes:
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise NotFound(f"There is no blob {key}.", key=key) from error
    except OSError as error:
        raise Unavailable(f"The store cannot be read: {error}") from error


def _plain(error: Exception, key: str) -> LimnerError:
    if isinstance(error, ObstoreNotFound | FileNotFoundError):
        return NotFound(f"There is no blob {key}.", key=key)
    if isinstance(error, AlreadyExistsError):
        return Conflict(f"There is a blob {key} already.", key=key)
    return Unavailable(f"The store does not do its work for {key}: {error}")
