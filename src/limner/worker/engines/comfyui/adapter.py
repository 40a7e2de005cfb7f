"""The `Engine` that is a ComfyUI at a URL."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from limner import logs
from limner.enginehost.protocol import EngineInfo, RunRequest
from limner.errors import LimnerError
from limner.worker.engines.comfyui import tasks
from limner.worker.engines.comfyui.address import Address
from limner.worker.engines.comfyui.client import ComfyClient, Refused, Unreachable
from limner.worker.engines.comfyui.follow import Hung
from limner.worker.engines.comfyui.inputs import Uploads
from limner.worker.engines.comfyui.line import Line
from limner.worker.engines.comfyui.monitor import Monitor
from limner.worker.engines.comfyui.patience import Patience
from limner.worker.engines.comfyui.placing import Placing
from limner.worker.engines.comfyui.run import ComfyRun, Instance
from limner.worker.engines.comfyui.stopping import Stopping
from limner.worker.engines.port import EngineLost, RunEnded, Sink

log = logs.get("comfyui")

FAREWELL_SECONDS = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ComfyConfig:
    """`worker`: this worker's id, the same after a restart. `deployment`: which Limner it belongs to; another one may
    drive the same instance, by a worker of the same id. `hang_seconds`: how long nothing may move during a run.

    `free_after_seconds`: when an idle instance lets go of its models, 0 for never. `keep_temp`: previews are kept
    too. `grace_seconds`: how long a run that is told to stop may go on before the instance is restarted.
    """

    worker: str
    deployment: str = ""
    hang_seconds: float = 900.0
    free_after_seconds: float = 0.0
    keep_temp: bool = True
    grace_seconds: float = 10.0
    patience: Patience = field(default_factory=Patience)


class ComfyEngine:
    """`ask_restart` has its instance restarted, where somebody can; it returns at once."""

    def __init__(
        self,
        address: Address,
        config: ComfyConfig,
        *,
        on_info: Callable[[EngineInfo], None] | None = None,
        ask_restart: Callable[[], None] | None = None,
    ) -> None:
        self.on_info = on_info or (lambda _: None)
        self._address = address
        self._config = config
        self._ask_restart = ask_restart
        self._client = ComfyClient(address)
        self._line = Line(address)
        self._placing = Placing(self._client, config.worker, config.deployment, config.patience)
        self._uploads = Uploads(self._client)
        self._monitor = Monitor(
            self._client,
            self._line,
            self._placing,
            config.patience,
            free_after_seconds=config.free_after_seconds,
            on_info=lambda info: self.on_info(info),
            lost=self._is_lost,
        )
        self._is_up = False
        self._stuck = ""  # a prompt that does not stop; nothing else can run before it does
        self._goes_down_until = 0.0  # a restart was asked for, and need not have begun yet
        self._run: tuple[ComfyRun, Stopping] | None = None
        self._last = ""  # the prompt of the run that ended last
        self._loose_ends: set[asyncio.Task[None]] = set()

    @property
    def info(self) -> EngineInfo:
        return self._monitor.info

    @property
    def alive(self) -> bool:
        return self._is_up

    @property
    def resumes(self) -> bool:
        return True

    async def start(self) -> None:
        """Makes sure that the instance is there and free for runs, and learns what it has. Raises EngineLost."""
        self._is_up = False
        await self._monitor.end()
        await self._until_it_went_down()
        try:
            await self._see_whether_stuck()
            await self._monitor.survey()
            await self._placing.take_stock()
        except (Unreachable, Refused) as error:
            raise EngineLost(f"the ComfyUI at {self._address.shown} cannot be used: {error.message}") from error
        try:
            await self._line.open()
        except Unreachable as error:  # a proxy may let no sockets through: runs can be followed without
            log.warning("a ComfyUI's events cannot be heard", error=error.message)
        self._is_up = True
        self._monitor.idle()
        self._monitor.begin()

    async def run(self, request: RunRequest, sink: Sink) -> RunEnded:
        """See the port. Whatever the instance does, this ends with a RunEnded, EngineLost or what the sink raised."""
        if not self._is_up:
            raise EngineLost(f"the ComfyUI at {self._address.shown} is not there")
        stopping = self._stopping()
        run = ComfyRun(self._instance(), request, sink, stopping)
        self._run = run, stopping
        self._monitor.busy()
        if request.interrupted:
            stopping.ask()
        try:
            ended = await self._guarded(run, request)
            await self._uploads.tidy()
            return ended
        finally:
            self._run = None
            self._last = run.prompt_id
            self._settle_state(run, stopping)
            self._monitor.idle()

    async def interrupt(self) -> None:
        """See the port."""
        if self._run is not None:
            self._run[1].ask()

    async def watch(self, previews: bool) -> None:
        if self._run is not None:
            self._run[0].watch(previews)

    async def retract(self) -> None:
        """What is cached on the instance are its nodes' results; Limner keeps names of its own for the files."""

    async def accepted(self) -> None:
        """Takes the run out of the instance's history: it was needed to find it again."""
        if self._last:
            self._later(self._placing.forget(self._last))
            self._last = ""

    async def renew(self) -> None:
        await self.free(unload_models=True, free_memory=True)
        self._restart("several jobs in a row failed there for no fault of theirs")

    @property
    def checks(self) -> bool:
        return False  # it checks inputs when it is given a prompt

    async def check(self, questions: list[dict[str, Any]]) -> list[Any]:
        return [None] * len(questions)

    async def route(self, asked: dict[str, Any], body: bytes) -> tuple[dict[str, Any], bytes]:  # noqa: ARG002
        return {"routed": False}, b""  # its catalogue tells of no routes: it cannot be asked which it has

    async def free(self, *, unload_models: bool, free_memory: bool) -> None:
        """The instance does it when it is between prompts. One that does not answer has nothing to free."""
        try:
            await self._client.free(unload_models=unload_models, free_memory=free_memory)
        except (Unreachable, Refused) as error:
            log.warning("a ComfyUI could not be told to free memory", error=error.message)
        else:
            self._monitor.freed()

    async def close(self) -> None:
        """Lets go of the instance, which goes on."""
        self._is_up = False
        await self._monitor.end()
        if self._loose_ends:
            await asyncio.wait(self._loose_ends, timeout=FAREWELL_SECONDS)
        for task in list(self._loose_ends):
            await tasks.end(task)
        await self._line.close()
        await self._client.close()

    async def _guarded(self, run: ComfyRun, request: RunRequest) -> RunEnded:
        """Only what the port allows comes out of it, however odd the things are that the instance says."""
        try:
            if self._placing.leftovers:
                await self._placing.stop_leftovers(but=request.job)
            ended = await run.go()
        except EngineLost as lost:
            self._is_up = False
            if isinstance(lost, Hung) and not lost.foreign:
                self._restart(lost.message)
            raise
        except (Unreachable, Refused) as error:
            self._is_up = False
            raise EngineLost(f"the ComfyUI is gone: {error.message}") from error
        except (LimnerError, OSError):
            raise
        except Exception as error:
            log.error("a ComfyUI said what nobody understands", job_id=request.job, exc_info=error)
            raise EngineLost(f"the ComfyUI said what nobody understands ({type(error).__name__}: {error})") from error
        if ended.outcome == "unfit":
            self._monitor.stale()
        return ended

    def _settle_state(self, run: ComfyRun, stopping: Stopping) -> None:
        """What the run leaves behind decides whether the instance can be used for the next one."""
        if run.stuck:
            self._stuck = run.prompt_id
            self._is_up = False
        if run.sick:
            self._restart("its GPU works no more")
        if stopping.forced:
            self._goes_down()

    def _restart(self, why: str) -> None:
        """Has the instance restarted, where somebody can."""
        log.warning("a ComfyUI should be started again", why=why, asked=self._ask_restart is not None)
        if self._ask_restart is not None:
            self._goes_down()
            self._ask_restart()

    def _goes_down(self) -> None:
        self._is_up = False
        self._stuck = ""
        self._goes_down_until = time.monotonic() + self._config.patience.restart

    async def _until_it_went_down(self) -> None:
        """A restart takes a moment to begin; what still answers until then is not what will run the next job."""
        while time.monotonic() < self._goes_down_until:
            try:
                await self._client.system_stats()
            except (Unreachable, Refused):
                break
            await asyncio.sleep(self._config.patience.look)
        self._goes_down_until = 0.0

    async def _see_whether_stuck(self) -> None:
        if self._stuck and (await self._client.queue()).holds(self._stuck):
            raise EngineLost(f"the ComfyUI at {self._address.shown} still runs a prompt that it was told to stop")
        self._stuck = ""

    def _is_lost(self, why: str) -> None:
        log.warning("a ComfyUI is gone", instance=self._address.shown, error=why)
        self._is_up = False

    def _stopping(self) -> Stopping:
        return Stopping(
            self._client,
            self._config.patience,
            self._config.grace_seconds,
            ask_restart=self._ask_restart,
            tell=self._line.inbox.poke,
        )

    def _instance(self) -> Instance:
        return Instance(
            client=self._client,
            line=self._line,
            placing=self._placing,
            uploads=self._uploads,
            specs=self._monitor.specs,
            patience=self._config.patience,
            hang_seconds=self._config.hang_seconds,
            keep_temp=self._config.keep_temp,
        )

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._loose_ends.add(task)
        task.add_done_callback(self._loose_ends.discard)
