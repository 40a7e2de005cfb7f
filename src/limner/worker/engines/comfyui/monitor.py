"""What an instance is and has, and whether it is still there, while no run asks anyway."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from limner import logs
from limner.enginehost.protocol import EngineInfo
from limner.graph.catalogue import Catalogue
from limner.graph.object_info import catalogue_of
from limner.graph.spec import NodeSpec
from limner.worker.engines.comfyui import tasks
from limner.worker.engines.comfyui.client import ComfyClient, Refused, Unreachable
from limner.worker.engines.comfyui.line import Line
from limner.worker.engines.comfyui.patience import Patience
from limner.worker.engines.comfyui.placing import Placing
from limner.worker.engines.comfyui.values import sound

log = logs.get("comfyui")

OLDEST = (0, 3, 40)
MISSES = 3  # so many looks in a row may fail before the instance counts as gone


class Monitor:
    """`survey` learns everything; then `run` looks again while `idle` is set. `lost` is called when it is gone."""

    def __init__(
        self,
        client: ComfyClient,
        line: Line,
        placing: Placing,
        patience: Patience,
        *,
        free_after_seconds: float,
        on_info: Callable[[EngineInfo], None],
        lost: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.info = EngineInfo(kind="comfyui")
        self.specs: Mapping[str, NodeSpec] = {}
        self._told: tuple[Any, ...] = ()  # what was last told of it
        self._client = client
        self._line = line
        self._placing = placing
        self._patience = patience
        self._free_after = free_after_seconds
        self._on_info = on_info
        self._lost = lost
        self._clock = clock
        self._idle_since: float | None = clock()
        self._freed = True  # a fresh instance holds nothing
        self._had_line = False  # whether its events could be heard; a proxy may let no sockets through
        self._was_cut = False  # whether its socket broke since it was surveyed
        self._stale = asyncio.Event()
        self._models: dict[str, list[str]] = {}
        self._models_at = self._surveyed_at = clock()
        self._task: asyncio.Task[None] | None = None

    async def survey(self) -> None:
        """All of it anew. Raises Unreachable and Refused."""
        stats = await self._client.system_stats()
        object_info = await self._client.object_info()
        models = await self._client.models()
        catalogue = await asyncio.to_thread(_catalogue, object_info, models)
        self._models, self._models_at, self._surveyed_at = models, self._clock(), self._clock()
        self._was_cut = False
        if catalogue.digest != self.info.digest:
            self.specs = catalogue.filled
            self.info = replace(self.info, catalogue=catalogue.to_json(), digest=catalogue.digest)
            log.info("what the ComfyUI offers", nodes=len(catalogue.nodes), digest=catalogue.digest[:12])
        self._learn(stats)

    def begin(self) -> None:
        """From now on it is looked at from time to time."""
        self._had_line = self._line.up
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run())

    async def end(self) -> None:
        await tasks.end(self._task)
        self._task = None

    def busy(self) -> None:
        """A run begins: it sees for itself whether the instance is there."""
        self._idle_since = None
        self._freed = False

    def idle(self) -> None:
        self._idle_since = self._clock()

    def stale(self) -> None:
        """What is known of it proved wrong: looks as soon as it is idle."""
        self._stale.set()

    def freed(self) -> None:
        """It was told to let go of what it holds."""
        self._freed = self._idle_since is not None

    async def _run(self) -> None:
        misses = 0
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._patience.idle_look):
                    await self._stale.wait()
            if self._idle_since is None:
                misses = 0
                await asyncio.sleep(self._patience.idle_look)  # `stale` may be set for all of a run
                continue
            try:
                await self._look(self._clock())
                misses = 0
            except (Unreachable, Refused) as error:
                misses += 1
                is_gone = isinstance(error, Unreachable) and error.refused
                if self._idle_since is not None and (is_gone or misses >= MISSES):
                    self._lost(error.message)
                    return
            except Exception as error:  # else nobody would look any more, and nobody would know
                log.exception("a ComfyUI said of itself what nobody understands")
                self._lost(f"{type(error).__name__}: {error}")
                return

    async def _look(self, now: float) -> None:
        """One look; more where something may have changed. Raises Unreachable and Refused."""
        self._was_cut = self._was_cut or (self._had_line and not self._line.up)  # perhaps by a restart
        every = self._patience.models_every if self._was_cut else self._patience.catalogue_every
        if self._stale.is_set() or now - self._surveyed_at >= every:
            await self.survey()
            self._stale.clear()
        else:
            self._learn(await self._client.system_stats())
            await self._look_at_models(now)
        if self._idle_since is not None:
            await self._open_line()
            await self._tidy(now)

    async def _look_at_models(self, now: float) -> None:
        """A new model file changes what the nodes offer."""
        if now - self._models_at >= self._patience.models_every:
            self._models_at = now
            if await self._client.models() != self._models:
                await self.survey()

    async def _open_line(self) -> None:
        if self._line.up:
            self._had_line = True
            return
        try:
            await self._line.open()
            self._had_line = True
        except Unreachable as error:
            if self._had_line:
                log.warning("a ComfyUI's events cannot be heard", error=error.message)
            self._had_line = False

    async def _tidy(self, now: float) -> None:
        """What nobody needs while it is idle."""
        idle_for = now - (self._idle_since or now)
        if self._placing.leftovers and idle_for >= self._patience.leftovers:
            await self._placing.stop_leftovers()
        if self._free_after and not self._freed and idle_for >= self._free_after:
            log.info("an idle ComfyUI lets go of its models", idle_seconds=round(idle_for))
            await self._client.free(unload_models=True, free_memory=True)
            self._freed = True

    def _learn(self, stats: dict[str, Any]) -> None:
        """Takes in /system_stats; tells of changes, but not of every free byte."""
        before = self.info
        told = stats.get("system")
        system = sound(told) if isinstance(told, dict) else {}
        version = _text(system.get("comfyui_version"))
        if version != before.version:
            _greet(version, before.version)
        devices = stats.get("devices")
        self.info = replace(
            before,
            version=version,
            devices=[sound(each) for each in devices if isinstance(each, dict)] if isinstance(devices, list) else [],
            python_version=_text(system.get("python_version")),
            pytorch_version=_text(system.get("pytorch_version")),
            ram_total=_bytes(system.get("ram_total")),
            ram_free=_bytes(system.get("ram_free")),
            ready=True,
        )
        if _face(self.info) != self._told:
            self._told = _face(self.info)
            self._on_info(self.info)


def _catalogue(object_info: dict[str, Any], models: dict[str, list[str]]) -> Catalogue:
    """With what is worked out on demand worked out, as this takes a while."""
    catalogue = catalogue_of(object_info, models)
    _ = catalogue.digest, catalogue.filled
    return catalogue


def _greet(version: str, before: str) -> None:
    if before:
        log.warning("the ComfyUI has another version now", version=version, before=before)
    numbers = tuple(int(each) for each in re.findall(r"\d+", version)[:3])
    if numbers and numbers < OLDEST:
        log.warning("this ComfyUI is older than any that Limner was tried with", version=version, oldest="0.3.40")


def _face(info: EngineInfo) -> tuple[Any, ...]:
    """What does not change all the time."""
    names = tuple(str(device.get("name")) for device in info.devices)
    return info.digest, info.ready, info.version, names, info.pytorch_version, info.ram_total


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _bytes(value: Any) -> int:
    return int(value) if isinstance(value, int | float) else 0
