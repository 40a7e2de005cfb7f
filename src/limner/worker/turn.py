"""One token's way through a worker: claim, run, report, acknowledge."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from limner import logs
from limner.blobs.port import BlobStore
from limner.bus.messages import Claimed, Done, Settled
from limner.bus.port import Bus, Delivery
from limner.errors import LimnerError, PayloadTooLarge, Unavailable
from limner.worker.attempt import Attempt, as_failed
from limner.worker.elsewhere import Elsewhere
from limner.worker.engines.port import Engine
from limner.worker.events import EventStream
from limner.worker.files import JobFiles
from limner.worker.gateway import Gateways
from limner.worker.leaving import Leaving
from limner.worker.steering import Steering

log = logs.get("worker")


class Turns:
    """`scratch`: a folder of this worker alone. `output`: the readable folder, where one is kept."""

    def __init__(
        self,
        *,
        bus: Bus,
        blobs: BlobStore,
        engine: Engine,
        gateways: Gateways,
        steering: Steering,
        leaving: Leaving,
        scratch: Path,
        output: Path | None,
    ) -> None:
        self._bus = bus
        self._blobs = blobs
        self._engine = engine
        self._gateways = gateways
        self._steering = steering
        self._leaving = leaving
        self._scratch = scratch
        self._output = output
        self._elsewhere = Elsewhere()
        self._runs = 0
        self._loose_ends: set[asyncio.Task[None]] = set()

    async def claim(self, delivery: Delivery, *, resumed: bool = False) -> Claimed | None:
        """The token's job. None: it is not for this worker, and the token has been dealt with."""
        self._steering.expect()
        digest = self._engine.info.digest
        try:  # also while it stops: a job that was granted has to be returned, or it counts as lost
            claimed = await self._gateways.claim(delivery, catalogue=digest, resumed=resumed, go_on=self._patient)
        except Unavailable:
            await self.give_back(delivery)
            return None
        if claimed.ok:
            return claimed
        log.debug("claim refused", job_id=delivery.token.id, reason=claimed.reason, elsewhere=claimed.elsewhere)
        if claimed.elsewhere:
            await self.give_back(delivery, self._elsewhere.seconds(delivery.token.id))
        elif not resumed:  # another worker may hold what was ours: an acknowledgement would take it from there
            await self._ack(delivery)
        return None

    async def work(self, delivery: Delivery, claimed: Claimed, *, resumed: bool = False) -> Done:
        """Runs the job, reports how it ended, and then lets the token go."""
        job_id = delivery.token.id
        self._runs += 1
        files = JobFiles(self._blobs, claimed, self._scratch / f"{job_id}-{self._runs}", self._output)
        try:
            done = await self._run(job_id, claimed, files, resumed=resumed)
            if not _is_final(done):
                await self._engine.retract()  # the job runs again: what it has saved so far is not its result
            await self._hand_in(delivery, done, files)
            return done
        finally:
            files.clean()

    async def give_back(self, delivery: Delivery, delay_seconds: float = 0.0) -> None:
        """For another worker, or for this one later."""
        try:
            await delivery.nak(delay_seconds)
        except Unavailable as error:
            log.debug("a token was not given back", job_id=delivery.token.id, error=error.message)

    async def finish(self) -> None:
        """Waits for what the next pull need not wait for."""
        await asyncio.gather(*self._loose_ends)

    def _patient(self) -> bool:
        return not self._leaving.over

    async def _run(self, job_id: str, claimed: Claimed, files: JobFiles, *, resumed: bool) -> Done:
        attempt = Attempt(
            number=self._runs,
            job_id=job_id,
            claimed=claimed,
            engine=self._engine,
            gateways=self._gateways,
            events=EventStream(self._bus, job_id, claimed),
            files=files,
            resumed=resumed,
        )
        await self._steering.begin(attempt)
        try:
            if self._leaving.begun:
                await attempt.stop("returned")
            return await attempt.run()
        finally:
            self._steering.end()

    async def _hand_in(self, delivery: Delivery, done: Done, files: JobFiles) -> None:
        try:
            settled = await self._report(done)
        except Unavailable as error:
            log.warning("an attempt could not be reported", job_id=done.id, error=error.message)
            await self.give_back(delivery)
            return
        if settled.ok:
            if done.outcome != "returned":
                await files.show()
            if _is_final(done):  # else the next attempt may find there what this one could not bring home
                await self._let_engine_forget(done)
            self._later(self._ack(delivery))
            return
        # Another worker may hold the token by now: an acknowledgement would take it from there.
        log.warning("an attempt's report was refused", job_id=done.id, reason=settled.reason)
        await self._engine.retract()

    async def _report(self, done: Done) -> Settled:
        try:
            return await self._gateways.done(done, go_on=self._patient)
        except PayloadTooLarge as error:
            await self._engine.retract()
            return await self._gateways.done(as_failed(done, error), go_on=self._patient)

    async def _let_engine_forget(self, done: Done) -> None:
        try:
            await self._engine.accepted()
        except LimnerError as error:
            log.debug("the engine keeps what it could forget", job_id=done.id, error=error.message)

    async def _ack(self, delivery: Delivery) -> None:
        """A token that is not acknowledged comes again, and its claim is refused: no harm."""
        try:
            await delivery.ack()
        except Unavailable as error:
            log.debug("a token was not acknowledged", job_id=delivery.token.id, error=error.message)

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._loose_ends.add(task)
        task.add_done_callback(self._loose_ends.discard)


def _is_final(done: Done) -> bool:
    """Whether the job does not run again because of how this attempt ended."""
    return done.outcome != "returned" and not (done.error or {}).get("retryable")
