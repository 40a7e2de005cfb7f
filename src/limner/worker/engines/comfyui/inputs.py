"""A job's input files on the instance: uploaded under names of their own, and named so in the workflow."""

from __future__ import annotations

import asyncio
import hashlib
import re
import tempfile
from collections import OrderedDict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from limner import logs
from limner.enginehost.protocol import RunRequest
from limner.errors import DiskFull, LimnerError, PayloadTooLarge, Unavailable
from limner.graph.literals import split_mark
from limner.graph.references import may_name_file
from limner.graph.spec import NodeSpec
from limner.graph.workflow import unwrapped
from limner.worker.engines.comfyui import causes
from limner.worker.engines.comfyui.client import Refused

log = logs.get("comfyui")

FOLDER = "limner"
MODELS_3D = "3d"
"""Loaders of 3D models list this folder of the input folder, and what is below it."""
KEPT_BYTES = 1024 * 1024 * 1024
SMALL_BYTES = 4 * 1024 * 1024  # up to this a file is hashed without a thread
DIGITS = 32
LONGEST_TAIL = 200  # bytes
UNFIT = re.compile(r'[<>:"|?*\x00-\x1f]')
"""What no name on Windows holds, where an instance may well run."""
TRIES = 3
PAUSE_SECONDS = 0.3


Place = tuple[str, str]
"""(subfolder, name) in the instance's input folder."""


class Instance(Protocol):
    """What is needed of a ComfyUI here."""

    async def upload(
        self, path: Path, *, name: str, subfolder: str, type: str = "input", overwrite: bool = True
    ) -> dict[str, str]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A workflow that names the uploaded files. `shown`: those names -> the names that the caller gave."""

    workflow: dict[str, Any]
    shown: dict[str, str]

    def restore(self, value: Any) -> Any:
        """The same JSON with the caller's names in every text: nobody sees what only this instance calls a file."""
        if not self.shown:
            return value
        return self._restored(value)

    def _restored(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._in_text(value)
        if isinstance(value, list):
            return [self._restored(each) for each in value]
        if isinstance(value, dict):
            return {name: self._restored(each) for name, each in value.items()}
        return value

    def _in_text(self, text: str) -> str:
        for path, reference in self.shown.items():
            for spelling in (path, path.replace("/", "\\"), path.replace("/", "\\\\")):
                text = text.replace(spelling, reference)
        return text


class Uploads:
    """The input files that this worker has put on its instance."""

    def __init__(
        self, instance: Instance, *, kept_bytes: int = KEPT_BYTES, pause_seconds: float = PAUSE_SECONDS
    ) -> None:
        self._instance = instance
        self._kept_bytes = kept_bytes
        self._pause_seconds = pause_seconds
        self._sizes: OrderedDict[Place, int] = OrderedDict()  # the last used at the end

    async def prepare(
        self, request: RunRequest, specs: Mapping[str, NodeSpec], *, flat: Collection[str] = ()
    ) -> Prepared:
        """Uploads the job's input files, and names them in a copy of its workflow.

        A file's place follows from its tenant and its bytes: no job ever reads another tenant's, equal files are
        cached as such, and a repeated upload is harmless. `flat`: references to put right into the input folder.
        Raises PayloadTooLarge, DiskFull, Unavailable, and what the client raises where nobody answers.
        """
        names: dict[str, str] = {}
        for reference, local in request.inputs.items():
            place = await _place(request.tenant, reference, Path(local), flat=reference in flat)
            names[reference] = await self._upload(Path(local), reference, place)
        workflow = {node: _renamed(entry, specs, names) for node, entry in request.workflow.items()}
        return Prepared(workflow=workflow, shown={name: reference for reference, name in names.items()})

    async def recall(self, request: RunRequest) -> Prepared:
        """What `prepare` named under an earlier supervisor, whose prompt runs already; its workflow is not renamed."""
        shown: dict[str, str] = {}
        for reference, local in request.inputs.items():
            for flat in (False, True):
                shown[_joined(await _place(request.tenant, reference, Path(local), flat=flat))] = reference
        return Prepared(workflow=request.workflow, shown=shown)

    async def tidy(self) -> None:
        """Makes room on the instance: of too many bytes, the files used longest ago become empty ones.

        A ComfyUI can delete nothing. Not to be called while a run may still read its files.
        """
        too_many = sum(self._sizes.values()) - self._kept_bytes
        if too_many <= 0:
            return
        with tempfile.TemporaryDirectory(prefix="limner-") as folder:
            empty = Path(folder) / "empty"
            empty.touch()
            while too_many > 0:
                place, size = next(iter(self._sizes.items()))
                try:
                    await self._instance.upload(empty, name=place[1], subfolder=place[0])
                except LimnerError as error:
                    log.warning("an input file could not be emptied", file=_joined(place), error=error.message)
                    if not isinstance(error, Refused):  # nobody answers, so neither for the others: after the next run
                        return
                del self._sizes[place]
                too_many -= size

    async def _upload(self, path: Path, reference: str, place: Place) -> str:
        """The name of the uploaded file, as a workflow tells it."""
        subfolder, name = place
        size = _size(path)
        for again in range(TRIES):
            try:
                told = await self._instance.upload(path, name=name, subfolder=subfolder)
                break
            except Refused as refused:
                if refused.answered < 500 or again == TRIES - 1:
                    raise _fault(refused, reference, size) from refused
            await asyncio.sleep(self._pause_seconds * (again + 1))
        place = told["subfolder"].replace("\\", "/"), told["name"]
        self._sizes[place] = size
        self._sizes.move_to_end(place)
        return _joined(place)


def unlisted(body: Any, prepared: Prepared) -> frozenset[str]:
    """The references whose uploads a refusal (the body of a 400) says to be in no list.

    Some loaders offer what lies right in the input folder, and take nothing else.
    """
    found: set[str] = set()
    node_errors = body.get("node_errors") if isinstance(body, dict) else None
    for fault in causes.faults_of(node_errors):
        about = fault.get("extra_info")
        value = about.get("received_value") if isinstance(about, dict) else None
        if fault.get("type") == causes.NOT_IN_LIST and isinstance(value, str) and value in prepared.shown:
            found.add(prepared.shown[value])
    return frozenset(found)


def _renamed(node: Any, specs: Mapping[str, NodeSpec], names: Mapping[str, str]) -> Any:
    """A node with the uploaded files' names where it names files."""
    if not names or not isinstance(node, dict):
        return node
    spec, inputs = specs.get(str(node.get("class_type"))), node.get("inputs")
    if spec is None or not isinstance(inputs, dict):
        return node
    return {**node, "inputs": {name: _named(spec, name, value, names) for name, value in inputs.items()}}


def _named(node: NodeSpec, name: str, value: Any, names: Mapping[str, str]) -> Any:
    """An input's value, as the gateway read it: a file's name only where the input takes files."""
    spec = node.input.get(name)
    literal = unwrapped(value)
    if spec is None or not may_name_file(node, spec, literal):
        return value
    return names.get(literal, value)


def _tail(name: str) -> str:
    """The end of a name, its extension with it, short enough to stand behind a digest."""
    return name.encode()[-LONGEST_TAIL:].decode(errors="ignore")


def _joined(place: Place) -> str:
    return "/".join(part for part in place if part)


async def _place(tenant: str, reference: str, path: Path, *, flat: bool) -> Place:
    """Where an input file goes. `flat`: right into the input folder, where every loader looks."""
    name, _ = split_mark(reference.replace("\\", "/"))
    folder, _, name = name.rpartition("/")
    name = UNFIT.sub("_", name).rstrip(". ") or "file"
    small = _size(path) <= SMALL_BYTES
    digest = _digest(tenant, path) if small else await asyncio.to_thread(_digest, tenant, path)
    if flat:
        return "", f"{FOLDER}_{digest}_{_tail(name)}"
    if folder.split("/")[0] == MODELS_3D:
        return f"{MODELS_3D}/{FOLDER}/{digest}", name
    return f"{FOLDER}/{digest}", name


def _digest(tenant: str, path: Path) -> str:
    """32 hex digits of the SHA-256 over the tenant's name and the file's bytes."""
    start = hashlib.sha256(tenant.encode() + b"\0")
    with path.open("rb") as file:
        return hashlib.file_digest(file, start.copy).hexdigest()[:DIGITS]


def _size(path: Path) -> int:
    return path.stat().st_size


def _fault(refused: Refused, reference: str, size: int) -> LimnerError:
    """Why an upload was refused, for the one who sent the file."""
    said = causes.page_text(refused.body)
    match refused.answered:
        case 413:
            larger = f"The input file {reference!r} ({size} bytes) is larger than the ComfyUI of this worker takes"
            return PayloadTooLarge(f"{larger}: start it with a larger --max-upload-size.")
        case 500 | 507:
            full = "its disk may be full, or its input folder not writable"
            return DiskFull(f"ComfyUI could not keep the input file {reference!r}: {full} ({said})")
        case status:
            return Unavailable(f"ComfyUI did not take the input file {reference!r}: HTTP {status} {said}".rstrip())
