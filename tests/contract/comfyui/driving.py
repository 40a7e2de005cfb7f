"""A ComfyEngine at a replayed ComfyUI, and a sink that keeps what it is told."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from limner.enginehost.protocol import EngineInfo, RunRequest
from limner.worker.engines.comfyui.adapter import ComfyConfig, ComfyEngine
from limner.worker.engines.comfyui.address import Address
from limner.worker.engines.comfyui.patience import Patience
from limner.worker.engines.port import EngineEvent, Named, RunEnded, Wanted
from tests.support.recordings import prompts, recording
from tests.support.replayer import Replayer

WORKER = "comfyui-test"
SHORT = Patience(
    refused=1.0,
    unreachable=3.0,
    frozen=3.0,
    absent=0.5,
    late=2.0,
    deaf=1.0,
    stop_again=0.1,
    quiet=0.5,
    rejoin=1.0,
    submit_pause=0.2,
    restart=2.0,
    leftovers=1.0,
    idle_look=0.5,
)


class RecordingSink:
    """`taken`: names that other files have already, with the bytes' hash."""

    def __init__(self) -> None:
        self.events: list[EngineEvent] = []
        self.asked: list[Named] = []
        self.taken: dict[tuple[str, str], str] = {}
        self.heard = asyncio.Event()

    async def event(self, event: EngineEvent) -> None:
        self.events.append(event)
        self.heard.set()

    async def reserve(self, wanted: Wanted) -> list[dict[str, str]]:
        raise AssertionError(f"a ComfyUI names its files itself: {wanted}")

    async def keep(self, files: list[Named]) -> list[dict[str, str]]:
        """As the gateway does it: own names, but where they are taken by other bytes."""
        self.asked += files
        kept = []
        for each in files:
            name, count = each.filename, 0
            while self.taken.get((each.subfolder, name), each.sha256) != each.sha256:
                count += 1
                stem, dot, extension = each.filename.rpartition(".")
                name = f"{stem} ({count}){dot}{extension}"
            self.taken[each.subfolder, name] = each.sha256
            kept.append({"filename": name, "subfolder": each.subfolder, "key": f"job/{each.sha256[:32]}"})
        return kept

    @property
    def kinds(self) -> list[str]:
        return [event.kind for event in self.events]

    def of(self, kind: str) -> list[EngineEvent]:
        return [event for event in self.events if event.kind == kind]

    async def until(self, kind: str, seconds: float = 10.0) -> EngineEvent:
        """Waits for an event of that kind."""
        async with asyncio.timeout(seconds):
            while not self.of(kind):
                self.heard.clear()
                await self.heard.wait()
        return self.of(kind)[0]


@dataclass
class Driven:
    """One engine, what it said of itself, and how often it asked for a restart of its ComfyUI."""

    engine: ComfyEngine
    server: Replayer
    folder: Path
    infos: list[EngineInfo] = field(default_factory=list)
    restarts: int = 0
    runs: int = 0
    sink: RecordingSink = field(default_factory=RecordingSink)  # that of the run that began last

    def request(self, body: dict[str, Any], **members: Any) -> RunRequest:
        """A job as the supervisor hands it over, from the body of a recorded POST /prompt."""
        self.runs += 1
        graph = body["prompt"]
        outputs = [n for n, node in graph.items() if self.server.object_info()[node["class_type"]]["output_node"]]
        folder = self.folder / str(self.runs)
        folder.mkdir()
        fields: dict[str, Any] = {
            "run": self.runs,
            "prompt_id": f"theirs-{self.runs}",
            "tenant": "default",
            "workflow": graph,
            "outputs": outputs,
            "extra_data": dict(body.get("extra_data") or {}),
            "folder": str(folder),
            "job": f"01890000-0000-7000-8000-{self.runs:012}",
            "token": f"token-{self.runs}",
        }
        return RunRequest(**(fields | members))

    async def run(self, request: RunRequest, sink: RecordingSink | None = None, seconds: float = 20.0) -> RunEnded:
        """The run's end. A run that is not over by then hangs."""
        self.sink = sink or RecordingSink()
        async with asyncio.timeout(seconds):
            return await self.engine.run(request, self.sink)


@asynccontextmanager
async def driving(
    server: Replayer,
    folder: Path,
    *,
    start: bool = True,
    supervised: bool = False,
    restarting: Callable[[], None] | None = None,
    **config: Any,
) -> AsyncIterator[Driven]:
    """A started engine. `supervised`: it may ask for a restart of its ComfyUI."""
    infos: list[EngineInfo] = []

    def restart() -> None:
        driven.restarts += 1
        if restarting is not None:
            restarting()

    engine = ComfyEngine(
        Address.parse(server.url),
        ComfyConfig(worker=WORKER, **{"patience": SHORT, **config}),
        on_info=infos.append,
        ask_restart=restart if supervised else None,
    )
    driven = Driven(engine, server, folder, infos)
    try:
        if start:
            async with asyncio.timeout(10):
                await engine.start()
        yield driven
    finally:
        async with asyncio.timeout(10):
            await engine.close()


def recorded(name: str, position: int = 0) -> dict[str, Any]:
    """The body of the accepted POST /prompt of that position in a recording."""
    return prompts(recording(name))[position]


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def files_of(end: RunEnded, sink: RecordingSink) -> dict[str, bytes]:
    """The downloaded files by the names that they are kept under: those told with events, and those of the end."""
    told = [*end.files, *(file for event in sink.events for file in event.files)]
    return {each["filename"]: Path(each["path"]).read_bytes() for each in told}
