"""A job's files on the worker: inputs down before the run, outputs up while it goes."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
from pathlib import Path
from typing import Any

from limner import logs
from limner.blobs.keys import temp_key
from limner.blobs.port import BlobStore
from limner.bus.messages import Claimed
from limner.errors import BadName, Conflict, Unavailable
from limner.worker.readable import folder_of, place

log = logs.get("files")

SMALL_BYTES = 4 * 1024 * 1024  # up to this a file is read and hashed without a thread
PAUSES_SECONDS = (0.2, 1.0, 3.0, 10.0)


class JobFiles:
    """Files of one attempt, in a scratch folder of its own. `output` is the readable folder, if one is kept."""

    def __init__(self, blobs: BlobStore, claimed: Claimed, scratch: Path, output: Path | None) -> None:
        self._blobs = blobs
        self._claimed = claimed
        self._scratch = scratch
        self._output = output
        self._keys: dict[tuple[str, str], str] = {}
        self._unshown: list[tuple[str, Path, dict[str, str]]] = []
        self.stored: list[dict[str, Any]] = []

    @property
    def folder(self) -> Path:
        """Where the engine writes; it makes the folder itself when it has something to write."""
        return self._scratch / "out"

    async def fetch_inputs(self) -> dict[str, str]:
        """Brings the job's input files here: reference -> local path. Raises NotFound, Unavailable."""
        paths: dict[str, str] = {}
        for number, file in enumerate(self._claimed.inputs):
            if number == 0:
                (self._scratch / "in").mkdir(parents=True, exist_ok=True)
            path = self._scratch / "in" / f"{number}{Path(file['reference'].split(' [')[0]).suffix}"
            await self._blobs.fetch(file["key"], path)
            paths[file["reference"]] = str(path)
        return paths

    def reserved(self, names: list[dict[str, str]]) -> None:
        """Remembers under which key each reserved name will lie. Without a key its bytes lie there already."""
        for name in names:
            self._keys[name["subfolder"], name["filename"]] = name["key"]

    async def store(self, files: list[dict[str, str]]) -> None:
        """Uploads what the engine wrote; when this returns, /view finds it. Raises Unavailable."""
        for file in files:
            path = Path(file["path"])
            if path.parent != self.folder:
                raise BadName(f"the engine wrote {path}, outside of its folder")
            if file["type"] == "temp":
                await self._store_temp(path, file)
            else:
                await self._store_output(path, file)

    async def show(self) -> None:
        """Puts the stored outputs into the readable folder, if one is kept.

        To be called once the attempt's report was accepted: before that, another attempt's files may be the job's.
        """
        if self._output is not None:
            for key, path, file in self._unshown:
                await self._show(key, path, file, self._output)
        self._unshown.clear()

    def clean(self) -> None:
        """Removes the scratch folder, if the job had one."""
        for folder in (self.folder, self._scratch / "in", self._scratch):
            _remove(folder)

    async def _store_temp(self, path: Path, file: dict[str, str]) -> None:
        key = temp_key(self._claimed.tenant, file["subfolder"], file["filename"])
        await self._put(key, await _read(path), durable=False)

    async def _store_output(self, path: Path, file: dict[str, str]) -> None:
        key = self._keys[file["subfolder"], file["filename"]]
        if not key or any(stored["key"] == key and _same_name(stored, file) for stored in self.stored):
            return
        size = _size(path)
        small = await _read(path) if size <= SMALL_BYTES else None
        digest = hashlib.sha256(small).hexdigest() if small is not None else await asyncio.to_thread(_sha256, path)
        await self._put(key, small if small is not None else path)
        told = {name: file[name] for name in ("filename", "subfolder", "type")}
        self.stored.append({"key": key, **told, "size_bytes": size, "sha256": digest})
        self._unshown.append((key, path, file))

    async def _put(self, key: str, data: bytes | Path, *, durable: bool = True) -> None:
        """Uploads, and again after a pause where the store does not answer; the last time its fault comes out."""
        for pause in (*PAUSES_SECONDS, None):
            try:
                await self._blobs.put(key, data, create=True, durable=durable)
            except Conflict:
                log.debug("already stored, by an upload whose answer was lost", key=key)
            except Unavailable:
                if pause is None:
                    raise
                await asyncio.sleep(pause)
                continue
            return

    async def _show(self, key: str, path: Path, file: dict[str, str], output: Path) -> None:
        """A full or read-only output folder must not fail the job: its bytes are safe in the store."""
        source = self._blobs.local_path(key)
        target = folder_of(output, self._claimed.tenant, file["subfolder"]) / file["filename"]

        def left_by_an_earlier_attempt(found: Path) -> bool:
            return source is not None and any(found.samefile(p) for p in source.parent.parent.glob("*/*"))

        try:
            await asyncio.to_thread(place, source or path, target, replaces=left_by_an_earlier_attempt)
        except OSError as error:
            log.warning("an output could not be put into the readable folder", path=str(target), error=str(error))


def _same_name(one: dict[str, Any], other: dict[str, str]) -> bool:
    return (one["subfolder"], one["filename"]) == (other["subfolder"], other["filename"])


async def _read(path: Path) -> bytes:
    return _bytes(path) if _size(path) <= SMALL_BYTES else await asyncio.to_thread(_bytes, path)


def _bytes(path: Path) -> bytes:
    return path.read_bytes()


def _size(path: Path) -> int:
    return path.stat().st_size


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _remove(folder: Path) -> None:
    """A flat folder goes in a few calls; what a node left in it besides costs more."""
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                os.unlink(entry.path)  # noqa: PTH108 - no Path objects for every file of every job
        folder.rmdir()
    except FileNotFoundError:
        return
    except OSError:
        shutil.rmtree(folder, ignore_errors=True)
