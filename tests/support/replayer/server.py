"""The replayed ComfyUI as a whole, on a port of this machine."""

from __future__ import annotations

import asyncio
import copy
import socket
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Self

import uvicorn
from starlette.applications import Starlette
from starlette.types import Receive, Scope, Send

from tests.support.recordings import recording
from tests.support.replayer.checks import refusal
from tests.support.replayer.executor import Executor
from tests.support.replayer.faults import Faults, Version
from tests.support.replayer.library import Library
from tests.support.replayer.routes import routes, trouble
from tests.support.replayer.script import Script
from tests.support.replayer.sockets import Sockets
from tests.support.replayer.state import Folders, Memory, Prompt
from tests.support.replayer.wire import Wire


@dataclass(frozen=True, slots=True)
class Asked:
    """One request as it came; `when` in seconds of the monotonic clock."""

    method: str
    path: str
    query: str
    when: float = field(default_factory=time.monotonic)


class Replayer:
    """Runs from `async with` to its end. `asked`: every request; `interrupts`, `freed`: what was asked of it.

    `models`: what its folders hold, by kind; `unknown`: graphs for which it has no recording (none in a good test).
    """

    def __init__(self, version: Version | None = None) -> None:
        self.version = version or Version()
        self.faults = Faults()
        self.models: dict[str, list[str]] = {"checkpoints": ["anchor_sd15.safetensors"]}
        self.library = Library.recorded()
        self.folders = Folders()
        self.memory = Memory()
        features = _features() if self.version.has_features else None
        self.sockets = Sockets(features)
        self.executor = Executor(
            self.faults, self.version, self.library, self.folders, self.sockets, self._break_sockets
        )
        self.asked: list[Asked] = []
        self.interrupts: list[str] = []
        self.freed: list[dict[str, Any]] = []
        self.unknown: list[Any] = []
        self._forced: deque[Script] = deque()
        self._working: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.wire.port}"

    @property
    def ran(self) -> list[Prompt]:
        """Every prompt that was begun, over all restarts."""
        return self.executor.ran

    async def __aenter__(self) -> Self:
        bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # for TCP_NODELAY
        bound.bind(("127.0.0.1", 0))
        self._app = Starlette(routes=routes(self))
        config = uvicorn.Config(self._asgi, interface="asgi3", lifespan="off", log_config=None, log_level="critical")
        self._uvicorn = uvicorn.Server(config)
        self._serving = asyncio.create_task(self._uvicorn.serve(sockets=[bound]))
        self.wire = Wire(bound.getsockname()[1])
        while not self._uvicorn.started:
            await asyncio.sleep(0.005)
        await self.come_back()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.crash()
        self._uvicorn.should_exit = self._uvicorn.force_exit = True
        await self._serving

    async def crash(self) -> None:
        """Ends as by kill -9: nobody listens, every connection breaks, the queue and the history are gone."""
        await self.wire.close()
        if self._working is not None:
            self._working.cancel()
            await asyncio.wait([self._working])
        self.memory = Memory()
        self.sockets.forget()
        self.library.forget()
        self.folders.wipe_temp()

    async def come_back(self) -> None:
        """Listens again on its port, with nothing queued and no history."""
        self._working = asyncio.create_task(self.executor.work(self.memory))
        await self.wire.open()

    async def restart(self) -> None:
        await self.crash()
        await self.come_back()

    def play(self, *scripts: Script) -> None:
        """The next prompts run so, whatever their graphs are."""
        self._forced.extend(scripts)

    def lose(self, prompt_id: str) -> None:
        """Forgets a waiting or finished prompt, as if it had never come."""
        self.memory.pending = [each for each in self.memory.pending if each.id != prompt_id]
        self.memory.history.pop(prompt_id, None)

    def script_for(self, graph: Any) -> tuple[Script | None, bool]:
        """How this graph runs, and whether the recording is of this very graph. None: it is refused."""
        if self._forced:
            return self._forced.popleft(), True
        if self.refusal(graph) is not None:
            return None, False
        script = self.library.script(graph)
        return script, script is not None and self.library.same(script.graph, graph)

    def refusal(self, graph: Any) -> dict[str, Any] | None:
        if (recorded := self.library.refusal(graph)) is not None:
            return recorded.answer
        return refusal(graph, self.object_info(), self.folders.files)

    def object_info(self) -> dict[str, Any]:
        """The recorded classes, with the checkpoints and the input files that are there now."""
        found = copy.deepcopy(self.library.object_info)
        found["CheckpointLoaderSimple"]["input"]["required"]["ckpt_name"][0] = list(self.models["checkpoints"])
        inputs = sorted(name for kind, folder, name in self.folders.files if kind == "input" and not folder)
        found["LoadImage"]["input"]["required"]["image"][0] = inputs
        if not self.version.tells_real_nodes:
            for entry in found.values():
                entry.pop("python_module", None)
        return found

    def count(self, method: str, path: str) -> int:
        """How many requests came for paths that begin so."""
        return sum(each.method == method and each.path.startswith(path) for each in self.asked)

    async def until_ran(self, count: int, seconds: float = 10.0) -> list[Prompt]:
        """Waits until so many prompts have been begun."""
        async with asyncio.timeout(seconds):
            while len(self.ran) < count:
                await asyncio.sleep(0.005)
        return self.ran

    def _break_sockets(self) -> None:
        self.wire.cut("/ws", "/api/ws")

    async def _asgi(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            path = scope["path"].removeprefix("/api")
            self.asked.append(Asked(scope["method"], path, scope["query_string"].decode()))
            for prefix, codes in self.faults.answers.items():
                if path.startswith(prefix) and codes:
                    await trouble(codes.pop(0))(scope, receive, send)
                    return
        await self._app(scope, receive, send)


def _features() -> dict[str, Any]:
    for exchange in recording("33")["exchanges"]:
        if exchange["request"]["path"] == "/features":
            features: dict[str, Any] = exchange["response"]["json"]
            return features
    raise KeyError("/features")
