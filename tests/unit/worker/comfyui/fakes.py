"""What a ComfyUI keeps in its folders, and what a worker is told of a run."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from limner.enginehost.protocol import RunRequest
from limner.errors import LimnerError, NotFound
from limner.worker.engines.port import EngineEvent, Named, Wanted


class Instance:
    """Files by (type, subfolder, name). `faults`: raised for a name instead; `asked`: every question in order."""

    def __init__(self, files: dict[tuple[str, str, str], bytes] | None = None) -> None:
        self.files = files or {}
        self.faults: dict[str, LimnerError] = {}
        self.passing: list[LimnerError] = []  # raised first, one for each upload
        self.asked: list[tuple[str, str, str]] = []

    async def upload(
        self, path: Path, *, name: str, subfolder: str, type: str = "input", overwrite: bool = True
    ) -> dict[str, str]:
        assert overwrite
        if self.passing:
            raise self.passing.pop(0)
        if name in self.faults:
            raise self.faults[name]
        self.files[type, subfolder, name] = path.read_bytes()
        return {"name": name, "subfolder": subfolder, "type": type}

    async def download(self, filename: str, subfolder: str, type: str, target: Path) -> int:
        self.asked.append((type, subfolder, filename))
        if filename in self.faults:
            raise self.faults[filename]
        try:
            data = self.files[type, subfolder, filename]
        except KeyError:
            raise NotFound(f"no {filename}") from None
        return target.write_bytes(data)


class RecordingSink:
    """Keeps names as a gateway does: the same bytes the same name, others the next free one."""

    def __init__(self) -> None:
        self.events: list[EngineEvent] = []
        self.kept: dict[tuple[str, str], str] = {}
        self.questions = 0

    async def event(self, event: EngineEvent) -> None:
        self.events.append(event)

    async def reserve(self, wanted: Wanted) -> list[dict[str, str]]:
        raise AssertionError("a ComfyUI names its files itself")

    async def keep(self, files: list[Named]) -> list[dict[str, str]]:
        self.questions += 1
        return [self._keep(each) for each in files]

    def _keep(self, file: Named) -> dict[str, str]:
        stem, dot, extension = file.filename.rpartition(".")
        number, name = 0, file.filename
        while self.kept.setdefault((file.subfolder, name), file.sha256) != file.sha256:
            number += 1
            name = f"{stem} ({number}){dot}{extension}"
        return {"subfolder": file.subfolder, "filename": name, "key": f"key/{name}"}

    @property
    def warnings(self) -> list[str]:
        return [event.data["text"] for event in self.events if event.kind == "Warned"]


def request(folder: Path, **members: Any) -> RunRequest:
    told: dict[str, Any] = {"run": 1, "prompt_id": "p", "tenant": "default", "workflow": {}, "outputs": []} | members
    return RunRequest(folder=str(folder), **told)


def digits(data: bytes) -> str:
    """What stands in front of a preview's name."""
    return hashlib.sha256(data).hexdigest()[:16]
