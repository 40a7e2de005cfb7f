"""What a run's nodes show: the files in it are fetched, and named as Limner keeps them."""

from __future__ import annotations

import asyncio
import hashlib
import posixpath
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from limner.enginehost.protocol import RunRequest
from limner.errors import NotFound, Unavailable
from limner.graph.literals import split_mark
from limner.worker.engines.comfyui.client import Refused
from limner.worker.engines.comfyui.filenames import (
    Kept,
    Place,
    Told,
    extension_of,
    filename_of,
    files_in,
    folder_of,
    renamed,
)
from limner.worker.engines.comfyui.history import Ending
from limner.worker.engines.comfyui.inputs import Prepared
from limner.worker.engines.comfyui.values import sound
from limner.worker.engines.port import EngineEvent, Named, Sink

AT_ONCE = 4
SMALL_BYTES = 4 * 1024 * 1024  # up to this a file is hashed without a thread
TEMP_DIGITS = 16

MADE = frozenset({"output", "temp"})
"""Where nodes put the files that they make."""

NO_FILE = frozenset({400, 403})
"""What /view answers for a name that leaves its folder, or is none."""


class FileGone(Unavailable):
    """A node was not run but answered from the instance's cache, and the file that it made then is there no more.

    The same prompt would be answered so again, until the instance has dropped its cache.
    """

    code = "worker_lost"  # tried again at once


class Instance(Protocol):
    """What is needed of a ComfyUI here."""

    async def download(self, filename: str, subfolder: str, type: str, target: Path) -> int: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    told: Told
    path: Path
    sha256: str


class Outputs:
    """The outputs of one run. `keep_temp`: previews are fetched too, else they keep a name that leads nowhere."""

    def __init__(
        self, instance: Instance, request: RunRequest, sink: Sink, *, keep_temp: bool, prepared: Prepared
    ) -> None:
        self._instance = instance
        self._folder = Path(request.folder)
        self._sink = sink
        self._keep_temp = keep_temp
        self._prepared = prepared
        self._made = 0
        self._gate = asyncio.Semaphore(AT_ONCE)
        self._cached: set[str] = set()
        self._known: dict[Place, tuple[str, Kept]] = {}  # the SHA-256 of its bytes, its name
        self._taken: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {}  # by node: as told, as kept

    def cached(self, nodes: list[str]) -> None:
        """Notes which nodes this run does not run: their files were made by an earlier one."""
        self._cached.update(nodes)

    async def take(self, node: dict[str, Any], ui: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, str]]]:
        """(what the node shows, with the names under which its files are kept, and those files).

        A file is whatever a node names by `filename`, under any key and at any depth. What the instance does not have
        keeps its name, with a warning. Raises FileGone where that is so because it did not make the file this time,
        Unavailable where it has a file and does not give it out, and what the client raises where nobody answers.
        """
        told = sound(ui)
        names, files = await self._keep(node, files_in(told))
        kept = self._prepared.restore(renamed(told, names))
        self._taken[node["id"]] = told, kept
        return kept, files

    async def settle(self, ending: Ending) -> tuple[dict[str, dict[str, Any]], list[dict[str, str]]]:
        """(the outputs that history tells, as kept, and the files in them that are new). Raises as `take` does."""
        outputs: dict[str, dict[str, Any]] = {}
        files: list[dict[str, str]] = []
        for node, ui in ending.outputs.items():
            told, kept = self._taken.get(node, (None, {}))
            if told != ui:
                meta = ending.meta[node]
                ref = {"id": node, "display": meta["display_node"], "parent": meta["parent_node"]}
                kept, new = await self.take({**ref, "real": meta["real_node_id"]}, ui)
                files += new
            outputs[node] = kept
        return outputs, files

    async def _keep(
        self, node: dict[str, Any], told: dict[Place, Told]
    ) -> tuple[dict[Place, Kept], list[dict[str, str]]]:
        """The files' names by where they lie on the instance, and those files that are here for the first time."""
        names = {place: name for place, each in told.items() if (name := self._given(each)) is not None}
        wanted = [each for place, each in told.items() if place not in names and self._is_wanted(each)]
        new: list[Fetched] = []
        for each in await self._fetch_all(node, wanted):
            sha256, name = self._known.get(each.told.place, ("", None))
            if name is not None and sha256 == each.sha256:
                names[each.told.place] = name
                each.path.unlink()
            else:
                new.append(each)
        keys = await self._name(new, names)
        files = [
            {"path": str(each.path), **asdict(names[each.told.place]), **keys.get(each.told.place, {})} for each in new
        ]
        self._known |= {each.told.place: (each.sha256, names[each.told.place]) for each in new}
        return names, files

    def _given(self, told: Told) -> Kept | None:
        """The name that the caller gave to an input file of this job."""
        if told.type != "input":
            return None
        reference = self._prepared.shown.get(posixpath.join(folder_of(told.subfolder), told.filename))
        if reference is None:
            return None
        name, mark = split_mark(reference)
        folder, _, filename = name.replace("\\", "/").rpartition("/")
        return Kept(type=mark or "input", subfolder=folder, filename=filename)

    def _is_wanted(self, told: Told) -> bool:
        return told.type == "output" or self._keep_temp

    async def _fetch_all(self, node: dict[str, Any], wanted: list[Told]) -> list[Fetched]:
        """A few at a time, in the order in which they were told. The first fault ends them all."""
        tasks = [asyncio.create_task(self._fetch(node, each)) for each in wanted]
        try:
            return [found for found in await asyncio.gather(*tasks) if found is not None]
        finally:
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.wait(tasks)

    async def _fetch(self, node: dict[str, Any], told: Told) -> Fetched | None:
        """None where the instance has no such file, or lets nobody have it by this name."""
        async with self._gate:
            path = self._free_path(told.filename)
            try:
                await self._instance.download(told.filename, told.subfolder, told.type, path)
            except NotFound:
                if told.sure and told.type in MADE and node["id"] in self._cached:
                    raise FileGone(f"{_shown(told)} of node {node['id']}, which was cached, is there no more") from None
                why = "it is not there"
            except Refused as refused:
                if refused.answered not in NO_FILE:
                    raise Unavailable(f"ComfyUI does not give out {_shown(told)}: {refused.message}") from refused
                why = "its name leads out of the folder"
            else:
                return Fetched(told=told, path=path, sha256=await _sha256(path))
        if told.sure:
            text = f"ComfyUI does not give out {_shown(told)}: {why}"
            await self._sink.event(EngineEvent(kind="Warned", data={"node": node, "text": text}))
        return None

    async def _name(self, new: list[Fetched], names: dict[Place, Kept]) -> dict[Place, dict[str, str]]:
        """Adds the names of new files. The keys of those that are stored for good."""
        outputs = [each for each in new if each.told.type == "output"]
        asked = [
            Named(
                subfolder=folder_of(each.told.subfolder), filename=filename_of(each.told.filename), sha256=each.sha256
            )
            for each in outputs
        ]
        keys: dict[Place, dict[str, str]] = {}
        for each, told in zip(outputs, await self._sink.keep(asked) if asked else [], strict=True):
            place = each.told.place
            names[place] = Kept(type="output", subfolder=told["subfolder"], filename=told["filename"])
            keys[place] = {"key": told["key"]}
        for each in new:
            if each.told.place not in names:
                names[each.told.place] = _temp_name(each, names)
        return keys

    def _free_path(self, filename: str) -> Path:
        if not self._made:
            self._folder.mkdir(parents=True, exist_ok=True)
        self._made += 1
        return self._folder / f"{self._made}{extension_of(filename)}"


def _temp_name(file: Fetched, names: dict[Place, Kept]) -> Kept:
    """A preview's name: its own, in a folder that its bytes name.

    Instances count previews each for itself, and anew after a restart. So the same name comes again for other bytes.
    """
    told = file.told
    digits = file.sha256[:TEMP_DIGITS]
    if told.beside in names:
        return Kept(type="temp", subfolder=names[told.beside].subfolder, filename=filename_of(told.filename))
    if told.bare:
        return Kept(type="temp", subfolder=folder_of(told.subfolder), filename=filename_of(f"{digits}_{told.filename}"))
    subfolder = posixpath.join(folder_of(told.subfolder), digits)
    return Kept(type="temp", subfolder=subfolder, filename=filename_of(told.filename))


def _shown(told: Told) -> str:
    return f"the {told.type} file {posixpath.join(told.subfolder, told.filename)!r}"


async def _sha256(path: Path) -> str:
    return _hashed(path) if _size(path) <= SMALL_BYTES else await asyncio.to_thread(_hashed, path)


def _size(path: Path) -> int:
    return path.stat().st_size


def _hashed(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
