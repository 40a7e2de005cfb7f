"""The supervisor's work: pull, claim, run, report, acknowledge; and again."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from limner import __version__, logs
from limner.blobs.port import BlobStore
from limner.bus import subjects
from limner.bus.messages import Claimed, Control, Done, Heartbeat, Settled
from limner.bus.port import Bus, Delivery
from limner.enginehost.protocol import EngineInfo
from limner.errors import PayloadTooLarge, Unavailable
from limner.worker.attempt import Attempt, as_failed
from limner.worker.engines.port import Engine, EngineLost
from limner.worker.events import EventStream
from limner.worker.files import JobFiles
from limner.worker.gateway import Gateways
from limner.worker.heartbeat import Offers, Pulse
from limner.worker.lease import Lease

log = logs.get("worker")

POLL_SECONDS = 1.0  # a wake can be lost
PAUSE_SECONDS = 0.2
LONGEST_RESTART_PAUSE_SECONDS = 30.0
MOST_EARLY_CONTROLS = 32
FAREWELL_SECONDS = 8.0  # how long a worker that is stopping waits for a gateway to take its last report


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerConfig:
    """`scratch`: a folder of this worker alone. `output`: the readable folder, where one is kept."""

    id: str
    pool: str
    scratch: Path
    output: Path | None = None
    lanes: tuple[str, ...] = ("any",)


class Worker:
    """One engine's supervisor. `run` works until `drain` was called and the job in hand is settled."""

    def __init__(self, *, config: WorkerConfig, bus: Bus, blobs: BlobStore, engine: Engine) -> None:
        self._config = config
        self._bus = bus
        self._blobs = blobs
        self._engine = engine
        self._gateways = Gateways(bus, config.id)
        self._lease = Lease(bus)
        self._pulse = Pulse(bus, self._heartbeat)
        self._offers = Offers(self._gateways, worker=config.id, pool=config.pool)
        self._attempt: Attempt | None = None
        self._early: deque[Control] = deque(maxlen=MOST_EARLY_CONTROLS)
        self._runs = 0
        self._resident: list[str] = []
        self._draining = asyncio.Event()
        self._idle: asyncio.Task[Any] | None = None
        self._farewell_over = False
        self._loose_ends: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Serves jobs until it is drained. Nothing that a job, the engine, NATS or a gateway does ends it."""
        helpers = [asyncio.create_task(part.run()) for part in (self._lease, self._pulse, self._offers)]
        for helper in helpers:
            helper.add_done_callback(self._helper_ended)
        control = await self._patiently_subscribe()
        try:
            while not self._draining.is_set():
                if self._engine.alive or await self._start_engine():
                    await self._next()
        finally:
            await asyncio.gather(*self._loose_ends)
            await _end(helpers)
            if control is not None:
                await control.stop()
            await self._engine.close()
            await self._leave()

    async def drain(self) -> None:
        """Stops after the job in hand, which goes back to the queue."""
        if self._draining.is_set():
            return
        self._draining.set()
        self._pulse.changed()
        asyncio.get_running_loop().call_later(FAREWELL_SECONDS, self._end_farewell)
        if self._idle is not None:
            self._idle.cancel()
        if self._attempt is not None:
            await self._attempt.stop("returned")

    def engine_changed(self, info: EngineInfo) -> None:
        """The engine said something new of itself."""
        self._offers.changed(info)
        self._pulse.changed()

    async def _patiently_subscribe(self) -> Any:
        while not self._draining.is_set():
            try:
                return await self._bus.subscribe(subjects.control(self._config.id), self._on_control)
            except Unavailable:
                await self._until_drained(asyncio.sleep(PAUSE_SECONDS))
        return None

    async def _start_engine(self) -> bool:
        """Starts the engine, with longer and longer pauses where it does not stay up."""
        pause = 0.5
        while not self._draining.is_set():
            try:
                await self._until_drained(self._engine.start())
            except EngineLost as error:
                log.error("the engine did not start", error=error.message, again_in_seconds=pause)
                await self._until_drained(asyncio.sleep(pause))
                pause = min(pause * 2, LONGEST_RESTART_PAUSE_SECONDS)
            else:
                break
        if self._engine.alive:
            info = self._engine.info
            devices = [device.get("name") for device in info.devices]
            log.info("engine ready", worker=self._config.id, pytorch=info.pytorch_version, devices=devices)
        return self._engine.alive

    async def _next(self) -> None:
        """One token from pull to acknowledgement, or a wait for one."""
        try:
            delivery = await self._bus.pull(self._config.pool, self._config.lanes)
            if delivery is None:
                await self._until_drained(self._bus.wait_wake(self._config.pool, POLL_SECONDS))
                return
        except Unavailable:
            await self._until_drained(asyncio.sleep(PAUSE_SECONDS))
            return
        with self._lease.holding(delivery):
            await self._work(delivery)

    async def _work(self, delivery: Delivery) -> None:
        """Claims the token's job, runs it, reports how it ended, and then lets the token go."""
        job_id = delivery.token.id
        self._early.clear()
        try:  # also while it drains: a job that was granted has to be returned, or it counts as lost
            claimed = await self._gateways.claim(
                delivery, catalogue=self._engine.info.digest, go_on=lambda: not self._farewell_over
            )
        except Unavailable:
            await self._give_back(delivery)
            return
        if not claimed.ok:
            log.debug("claim refused", job_id=job_id, reason=claimed.reason)
            await self._ack(delivery)
            return
        self._runs += 1
        files = JobFiles(self._blobs, claimed, self._config.scratch / f"{job_id}-{self._runs}", self._config.output)
        try:
            done = await self._run_job(job_id, claimed, files)
            if done.outcome == "returned" or (done.error or {}).get("retryable"):
                await self._engine.retract()  # the job runs again: what it has saved so far is not its result
            await self._hand_in(delivery, done, files)
        finally:
            files.clean()

    async def _hand_in(self, delivery: Delivery, done: Done, files: JobFiles) -> None:
        try:
            settled = await self._report(done)
        except Unavailable as error:
            log.warning("an attempt could not be reported", job_id=done.id, error=error.message)
            await self._give_back(delivery)
            return
        if settled.ok:
            if done.outcome != "returned":
                await files.show()
            self._later(self._ack(delivery))
            return
        # Another worker may hold the token by now: an acknowledgement would take it from there.
        log.warning("an attempt's report was refused", job_id=done.id, reason=settled.reason)
        await self._engine.retract()

    async def _report(self, done: Done) -> Settled:
        try:
            return await self._gateways.done(done, go_on=lambda: not self._farewell_over)
        except PayloadTooLarge as error:
            await self._engine.retract()
            return await self._gateways.done(as_failed(done, error), go_on=lambda: not self._farewell_over)

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        """What the next pull need not wait for."""
        task = asyncio.create_task(work)
        self._loose_ends.add(task)
        task.add_done_callback(self._loose_ends.discard)

    async def _run_job(self, job_id: str, claimed: Claimed, files: JobFiles) -> Done:
        attempt = self._attempt = Attempt(
            number=self._runs,
            job_id=job_id,
            claimed=claimed,
            engine=self._engine,
            gateways=self._gateways,
            events=EventStream(self._bus, job_id, claimed),
            files=files,
        )
        if self._draining.is_set():
            await attempt.stop("returned")
        for _ in range(len(self._early)):
            await self._steer(self._early.popleft())
        try:
            done = await attempt.run()
            self._resident = done.models
            return done
        finally:
            self._attempt = None

    async def _ack(self, delivery: Delivery) -> None:
        """A token that is not acknowledged comes again, and its claim is refused: no harm."""
        try:
            await delivery.ack()
        except Unavailable as error:
            log.debug("a token was not acknowledged", job_id=delivery.token.id, error=error.message)

    async def _give_back(self, delivery: Delivery) -> None:
        try:
            await delivery.nak()
        except Unavailable as error:
            log.debug("a token was not given back", job_id=delivery.token.id, error=error.message)

    async def _on_control(self, _: str, body: bytes) -> None:
        control = Control.decode(body)
        match control.kind:
            case "interrupt" | "watch":
                await self._steer(control)
            case "free":
                self._resident = []
                await self._engine.free(unload_models=control.unload_models, free_memory=control.free_memory)
            case "drain":
                await self.drain()
            case _:
                log.debug("a control message of an unknown kind", kind=control.kind)

    async def _steer(self, control: Control) -> None:
        """What is for a job not here yet is kept: it may be faster than the answer to that job's claim."""
        attempt = self._attempt
        if attempt is None or (attempt.job_id, attempt.claimed.token) != (control.id, control.token):
            self._early.append(control)
        elif control.kind == "interrupt":
            await attempt.stop("interrupted")
        else:
            await attempt.watch()

    def _heartbeat(self) -> Heartbeat:
        info, attempt = self._engine.info, self._attempt
        idle = "idle" if info.ready and self._engine.alive else "starting"
        busy = "busy" if attempt is not None else idle
        return Heartbeat(
            worker=self._config.id,
            pool=self._config.pool,
            state="draining" if self._draining.is_set() else busy,
            version=__version__,
            catalogue=info.digest,
            models=self._resident,
            devices=info.devices,
            python_version=info.python_version,
            pytorch_version=info.pytorch_version,
            job=attempt.job_id if attempt is not None else "",
        )

    async def _leave(self) -> None:
        try:
            await self._bus.drop_worker(self._config.id)
        except Unavailable as error:
            log.debug("could not sign off", error=error.message)

    async def _until_drained(self, wait: Coroutine[Any, Any, Any]) -> None:
        """Waits for something, unless `drain` cuts the waiting short. What it raises is raised here."""
        if self._draining.is_set():
            wait.close()
            return
        self._idle = asyncio.create_task(wait)
        try:
            await asyncio.wait({self._idle})
        finally:
            self._idle.cancel()
        if not self._idle.cancelled() and (fault := self._idle.exception()) is not None:
            raise fault

    def _helper_ended(self, helper: asyncio.Task[None]) -> None:
        """A worker without its lease or heartbeat is of no use: it stops, and is started again from outside."""
        if not helper.cancelled() and (fault := helper.exception()) is not None:
            log.error("a part of the worker failed; it stops", exc_info=fault)
            self._later(self.drain())

    def _end_farewell(self) -> None:
        self._farewell_over = True


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    """Cancels until it takes: Python 3.11's `wait_for` swallows a cancel that meets its result."""
    while pending := [task for task in tasks if not task.done()]:
        for task in pending:
            task.cancel()
        await asyncio.wait(pending, timeout=0.1)
