"""Dispatch over a real nats-server, with a worker that does nothing but keep its promises."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from limner.blobs.memory import MemoryStore
from limner.bus import subjects
from limner.bus.jetstream import JetStreamBus
from limner.bus.messages import Claim, Claimed, Done, Heartbeat, Message, Settled
from limner.bus.port import Delivery, M
from limner.dispatch.dispatcher import Dispatcher
from limner.errors import Unavailable
from limner.services.catalogues import Catalogues
from limner.worker.warm import WarmLane
from tests.support.durable import TENANT, WORKFLOW, Durable, durable
from tests.support.nats import NatsServer

BEAT_SECONDS = 2.0


class Worker:
    """Claims, ends and acknowledges one job after the other, and repeats itself until it is answered.

    It asks for lanes as a real worker does. `lanes`: of the jobs that it has ended.
    """

    def __init__(self, bus: JetStreamBus, name: str) -> None:
        self._bus = bus
        self._name = name
        self._warm = WarmLane()
        self._beat_at = -BEAT_SECONDS
        self.busy = False
        self.order: list[str] = []
        self.lanes: list[str] = []

    async def work(self) -> None:
        while True:
            try:
                await self._beat()
                delivery = await self._bus.pull("default", self._warm.lanes)
                if delivery is None:
                    self._warm.found_none()
                    woken = await self._bus.wait_wake("default", 0.5)
                    await asyncio.sleep(self._warm.grace_seconds(woken))
                else:
                    self.busy = True
                    await self._do(delivery)
                    self.busy = False
            except Unavailable:
                await asyncio.sleep(0.05)

    async def _beat(self) -> None:
        if time.monotonic() - self._beat_at >= BEAT_SECONDS:
            await self._bus.put_worker(
                Heartbeat(worker=self._name, pool="default", state="idle", version="1", catalogue="")
            )
            self._beat_at = time.monotonic()

    async def _do(self, delivery: Delivery) -> None:
        token = delivery.token
        self._warm.took(delivery.lane)
        claim = Claim(id=token.id, epoch=token.epoch, worker=self._name, delivery=delivery.id)
        claimed = await self._ask(subjects.CLAIM, claim, Claimed)
        if claimed.ok:
            done = Done(id=token.id, token=claimed.token, outcome="succeeded", outputs={"1": {}})
            if (await self._ask(subjects.DONE, done, Settled)).ok:
                self.order.append(claimed.prompt_id)
                self.lanes.append(delivery.lane)
        with contextlib.suppress(Unavailable):
            await delivery.ack()

    async def _ask(self, subject: str, question: Message, answer: type[M]) -> M:
        while True:
            try:
                return await self._bus.request(subject, question, answer, 1.0)
            except Unavailable:
                await asyncio.sleep(0.02)


@asynccontextmanager
async def dispatching(folder: Path, server: NatsServer) -> AsyncIterator[Durable]:
    """A gateway's dispatch, running."""
    bus = await JetStreamBus.connect(server.url, name="gateway", wait_seconds=0.5)
    async with durable(folder, bus) as d:
        dispatcher = Dispatcher(d.db, bus, d.release, d.attempts, Catalogues(d.db, bus, MemoryStore()))
        await dispatcher.start()
        try:
            yield d
        finally:
            await dispatcher.stop()
    await bus.close()


@asynccontextmanager
async def working(server: NatsServer, name: str = "w") -> AsyncIterator[Worker]:
    bus = await JetStreamBus.connect(server.url, name=name)
    worker = Worker(bus, name)
    task = asyncio.create_task(worker.work())
    try:
        yield worker
    finally:
        while not task.done():  # wait_for in the client may swallow a cancel
            task.cancel()
            await asyncio.wait({task}, timeout=0.1)
        await bus.close()


async def submit_many(d: Durable, count: int, first: int = 0, models: Sequence[str] = ()) -> list[str]:
    """models: base weights; each job names the next one."""
    names = [f"p{n:03}" for n in range(first, first + count)]
    for place, name in enumerate(names):
        named = [models[place % len(models)]] if models else []
        await d.jobs.submit(
            tenant=TENANT, workflow=WORKFLOW, outputs=["1"], extra_data={}, prompt_id=name, models=named
        )
    return names


async def eventually(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.02)


async def all_ended(d: Durable, *workers: Worker) -> None:
    """Also until these workers have heard that their last jobs did."""
    deadline = time.monotonic() + 40
    while await d.jobs.remaining(TENANT):
        assert time.monotonic() < deadline, await d.jobs.queue(TENANT)
        await asyncio.sleep(0.05)
    await eventually(lambda: not any(worker.busy for worker in workers))
