"""The supervisor's work: a job at a time from the bus to the engine; and again."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from limner import __version__, logs
from limner.blobs.port import BlobStore
from limner.bus import subjects
from limner.bus.messages import Control, Done, Heartbeat
from limner.bus.port import Bus, Delivery
from limner.enginehost.protocol import EngineInfo
from limner.errors import LimnerError, Misconfigured, Unavailable
from limner.worker.engines.port import Engine, EngineLost
from limner.worker.gateway import Gateways
from limner.worker.heartbeat import Offers, Pulse
from limner.worker.identity import Identity
from limner.worker.lease import Lease
from limner.worker.leaving import Leaving
from limner.worker.quarantine import Quarantine
from limner.worker.resuming import held_before
from limner.worker.serving import answer_checks, answer_routes
from limner.worker.steering import Steering
from limner.worker.turn import Turns
from limner.worker.warm import WarmLane

log = logs.get("worker")

POLL_SECONDS = 1.0  # a wake can be lost
PAUSE_SECONDS = 0.2
SAME_NEWS_SECONDS = 300.0  # how long a fault that stays the same is not told again
LONGEST_RESTART_PAUSE_SECONDS = 30.0  # an engine that does not stay up may be costly to start
LONGEST_LOOK_PAUSE_SECONDS = 5.0  # one that outlives its supervisor is only looked for
RESUME_SECONDS = 60.0  # how long a job waits for its engine to come back, before it goes to another worker


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerConfig:
    """`scratch`: a folder of this worker alone. `output`: the readable folder, where one is kept."""

    id: str
    pool: str
    scratch: Path
    output: Path | None = None
    custom_node_routes: bool = False  # whether requests to the routes of node packs are answered


class Worker:
    """One engine's supervisor. `run` works until `drain` was called and the job in hand is settled."""

    def __init__(
        self,
        *,
        config: WorkerConfig,
        bus: Bus,
        blobs: BlobStore,
        engine: Engine,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config = config
        self._bus = bus
        self._blobs = blobs
        self._engine = engine
        self._gateways = Gateways(bus, config.id)
        self._lease = Lease(bus)
        self._identity = Identity(bus, config.id)
        self._pulse = Pulse(bus, self._heartbeat)
        self._offers = Offers(self._gateways, blobs, worker=config.id, pool=config.pool)
        self._steering = Steering()
        self._leaving = Leaving()
        self._quarantine = Quarantine(clock)
        self._warm = WarmLane(clock=clock)
        self._turns = Turns(
            bus=bus,
            blobs=blobs,
            engine=engine,
            gateways=self._gateways,
            steering=self._steering,
            leaving=self._leaving,
            scratch=config.scratch,
            output=config.output,
        )
        self._resident: list[str] = []
        self._fault: Misconfigured | None = None
        self._drains: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Serves jobs until it is drained. Nothing that a job, the engine, NATS or a gateway does ends it.

        Raises Misconfigured where another living worker bears its id.
        """
        helpers = [asyncio.create_task(part) for part in (self._lease.run(), self._identity.run(), self._be_shown())]
        helpers.append(asyncio.create_task(self._offers.run()))
        if self._engine.checks:
            helpers.append(asyncio.create_task(answer_checks(self._bus, self._engine, self._config.pool)))
        if self._config.custom_node_routes:
            answering = answer_routes(self._bus, self._blobs, self._engine, self._config.id)
            helpers.append(asyncio.create_task(answering))
        for helper in helpers:
            helper.add_done_callback(self._helper_ended)
        control = await self._patiently_subscribe()
        try:
            await self._resume()
            while not self._leaving.begun:
                if self._engine.alive or await self._start_engine():
                    await self._next()
        finally:
            await self._turns.finish()
            await asyncio.gather(*self._drains)
            await _end(helpers)
            if control is not None:
                await control.stop()
            await self._engine.close()
            await self._leave()
        if self._fault is not None:
            raise self._fault

    async def drain(self) -> None:
        """Stops after the job in hand, which goes back to the queue."""
        if self._leaving.begun:
            return
        self._leaving.begin()
        self._pulse.changed()
        if self._steering.attempt is not None:
            await self._steering.attempt.stop("returned")

    def engine_changed(self, info: EngineInfo) -> None:
        """The engine said something new of itself."""
        self._offers.changed(info)
        self._pulse.changed()

    async def _be_shown(self) -> None:
        await self._identity.looked()
        await self._pulse.run()

    async def _patiently_subscribe(self) -> Any:
        while not self._leaving.begun:
            try:
                return await self._bus.subscribe(subjects.control(self._config.id), self._on_control)
            except Unavailable:
                await self._leaving.until(asyncio.sleep(PAUSE_SECONDS))
        return None

    async def _start_engine(self, within_seconds: float | None = None) -> bool:
        """Starts the engine, with longer and longer pauses where it does not stay up."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_seconds):
                await self._start_patiently()
        if self._engine.alive:
            info = self._engine.info
            devices = [device.get("name") for device in info.devices]
            log.info("engine ready", version=info.version or None, pytorch=info.pytorch_version, devices=devices)
        return self._engine.alive

    async def _start_patiently(self) -> None:
        pause, told, told_at = 0.5, "", 0.0
        longest = LONGEST_LOOK_PAUSE_SECONDS if self._engine.resumes else LONGEST_RESTART_PAUSE_SECONDS
        while not self._leaving.begun:
            try:
                await self._leaving.until(self._engine.start())
            except EngineLost as error:
                if error.message != told or time.monotonic() - told_at > SAME_NEWS_SECONDS:
                    log.warning("the engine did not start; it is tried again and again", error=error.message)
                    told, told_at = error.message, time.monotonic()
                await self._leaving.until(asyncio.sleep(pause))
                pause = min(pause * 2, longest)
            else:
                return

    async def _resume(self) -> None:
        """Goes on with what an earlier life of this worker held, where its engine outlived it."""
        if not self._engine.resumes or self._leaving.begun:
            return
        starting = asyncio.create_task(self._start_engine(RESUME_SECONDS))  # also while no gateway answers
        try:
            ask = held_before(self._bus, self._gateways, self._config.pool, go_on=lambda: not self._leaving.begun)
            for delivery in await self._leaving.until(ask) or ():
                with self._lease.holding(delivery):
                    await self._go_on_with(delivery, starting)
            await starting
        finally:
            await _end([starting])

    async def _go_on_with(self, delivery: Delivery, starting: asyncio.Task[bool]) -> None:
        up = await starting if not starting.done() else self._engine.alive or await self._start_engine(RESUME_SECONDS)
        await self._leaving.until(self._identity.alone())
        if not self._identity.is_alone:  # we stop, and somebody else under our id may be at work on it
            return
        claimed = await self._turns.claim(delivery, resumed=True)
        if claimed is None:
            return
        if up or self._leaving.begun:
            log.info("going on with a job", job_id=delivery.token.id, attempt=claimed.attempt)
            self._warm.took(delivery.lane)
            await self._after(await self._turns.work(delivery, claimed, resumed=True))
        else:
            log.warning("the engine did not come back; its job goes to another worker", job_id=delivery.token.id)
            await self._turns.give_back(delivery)

    async def _next(self) -> None:
        """One token from pull to acknowledgement, or a wait for one."""
        if left := self._quarantine.seconds_left:
            await self._leaving.until(asyncio.sleep(min(left, POLL_SECONDS)))
            self._pulse.changed()
            return
        try:
            delivery = await self._bus.pull(self._config.pool, self._warm.lanes)
            if delivery is None:
                self._warm.found_none()
                await self._wait()
                return
        except Unavailable:
            await self._leaving.until(asyncio.sleep(PAUSE_SECONDS))
            return
        with self._lease.holding(delivery):
            claimed = await self._turns.claim(delivery)
            if claimed is not None:
                self._warm.took(delivery.lane)
                await self._after(await self._turns.work(delivery, claimed))

    async def _wait(self) -> None:
        woken = await self._leaving.until(self._bus.wait_wake(self._config.pool, POLL_SECONDS))
        if grace := self._warm.grace_seconds(woken):
            await self._leaving.until(asyncio.sleep(grace))

    async def _after(self, done: Done) -> None:
        """What an attempt's end means for the worker itself."""
        self._resident = done.models
        seconds = self._quarantine.heard(done)
        error = done.error or {}
        code = error.get("code")
        if seconds:
            log.error("several jobs failed in a row; the worker takes none", code=code, for_seconds=seconds)
            await self._tend(self._engine.renew())
        elif code == "out_of_memory" and error.get("retryable", True) and self._engine.alive:
            await self._tend(self._engine.free(unload_models=True, free_memory=True))
        elif self._engine.alive:
            return
        self._cool()

    async def _tend(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except LimnerError as error:
            log.warning("the engine could not be brought into a fresh state", error=error.message)

    def _cool(self) -> None:
        """The engine holds no models any more."""
        self._resident = []
        self._warm.cool()
        self._pulse.changed()

    async def _on_control(self, _: str, body: bytes) -> None:
        control = Control.decode(body)
        match control.kind:
            case "interrupt" | "watch":
                await self._steering.steer(control)
            case "free":
                self._cool()
                await self._engine.free(unload_models=control.unload_models, free_memory=control.free_memory)
            case "drain":
                await self.drain()
            case _:
                log.debug("a control message of an unknown kind", kind=control.kind)

    def _heartbeat(self) -> Heartbeat:
        info, attempt = self._engine.info, self._steering.attempt
        return Heartbeat(
            worker=self._config.id,
            pool=self._config.pool,
            state=self._state(),
            version=__version__,
            catalogue=info.digest,
            models=self._resident,
            devices=info.devices,
            python_version=info.python_version,
            pytorch_version=info.pytorch_version,
            job=attempt.job_id if attempt is not None else "",
            incarnation=self._identity.incarnation,
            engine=info.kind,
            engine_version=info.version,
            ram_total=info.ram_total,
            ram_free=info.ram_free,
        )

    def _state(self) -> str:
        if self._leaving.begun:
            return "draining"
        if self._steering.attempt is not None:
            return "busy"
        if self._quarantine.seconds_left:
            return "quarantined"
        return "idle" if self._engine.info.ready and self._engine.alive else "starting"

    async def _leave(self) -> None:
        """What is shown under an id that is another's stays."""
        if self._fault is not None:
            return
        try:
            await self._bus.drop_worker(self._config.id)
        except Unavailable as error:
            log.debug("could not sign off", error=error.message)

    def _helper_ended(self, helper: asyncio.Task[None]) -> None:
        """A worker without its lease or heartbeat is of no use: it stops, and is started again from outside."""
        if helper.cancelled() or (fault := helper.exception()) is None:
            return
        if isinstance(fault, Misconfigured):
            log.error("this worker cannot work; it stops", error=fault.message)
            self._fault = fault
        else:
            log.error("a part of the worker failed; it stops", exc_info=fault)
        drain = asyncio.create_task(self.drain())
        self._drains.add(drain)
        drain.add_done_callback(self._drains.discard)


async def _end(tasks: Sequence[asyncio.Task[Any]]) -> None:
    """Cancels until it takes: Python 3.11's `wait_for` swallows a cancel that meets its result."""
    while pending := [task for task in tasks if not task.done()]:
        for task in pending:
            task.cancel()
        await asyncio.wait(pending, timeout=0.1)
