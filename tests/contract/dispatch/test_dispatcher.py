"""Dispatch over a real nats-server, with a worker that does nothing but keep its promises."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from limner.bus import subjects
from limner.bus.jetstream import JetStreamBus
from limner.bus.messages import Claim, Claimed, Done, Message, Settled
from limner.bus.port import Delivery, M
from limner.dispatch.dispatcher import Dispatcher
from limner.errors import Unavailable
from limner.services.catalogues import Catalogues
from tests.support.durable import TENANT, WORKFLOW, Durable, durable
from tests.support.nats import NatsServer


class Worker:
    """Claims, ends and acknowledges one job after the other, and repeats itself until it is answered."""

    def __init__(self, bus: JetStreamBus, name: str) -> None:
        self._bus = bus
        self._name = name
        self.order: list[str] = []

    async def work(self) -> None:
        while True:
            try:
                delivery = await self._bus.pull("default", ("any",))
                if delivery is None:
                    await self._bus.wait_wake("default", 0.5)
                else:
                    await self._do(delivery)
            except Unavailable:
                await asyncio.sleep(0.05)

    async def _do(self, delivery: Delivery) -> None:
        token = delivery.token
        claim = Claim(id=token.id, epoch=token.epoch, worker=self._name, delivery=delivery.id)
        claimed = await self._ask(subjects.CLAIM, claim, Claimed)
        if claimed.ok:
            done = Done(id=token.id, token=claimed.token, outcome="succeeded", outputs={"1": {}})
            if (await self._ask(subjects.DONE, done, Settled)).ok:
                self.order.append(claimed.prompt_id)
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
        dispatcher = Dispatcher(d.db, bus, d.release, d.attempts, Catalogues(d.db, bus))
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


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[NatsServer]:
    running = NatsServer(tmp_path / "nats")
    await running.start()
    yield running
    running.kill()


async def submit_many(d: Durable, count: int, first: int = 0) -> list[str]:
    names = [f"p{n:03}" for n in range(first, first + count)]
    for name in names:
        await d.jobs.submit(tenant=TENANT, workflow=WORKFLOW, outputs=["1"], extra_data={}, prompt_id=name)
    return names


async def eventually(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.02)


async def all_ended(d: Durable) -> None:
    deadline = time.monotonic() + 40
    while await d.jobs.remaining(TENANT):
        assert time.monotonic() < deadline, await d.jobs.queue(TENANT)
        await asyncio.sleep(0.05)


async def test_jobs_run_in_their_order_through_the_whole_way(tmp_path: Path, server: NatsServer) -> None:
    async with dispatching(tmp_path, server) as d, working(server) as worker:
        names = await submit_many(d, 30)
        await all_ended(d)
        assert worker.order == names
        assert [job.prompt_id for job in await d.jobs.history(TENANT)] == names
        await eventually(lambda: d.kinds().count("Ended") == 30)


async def test_two_workers_share_the_jobs_and_each_ends_once(tmp_path: Path, server: NatsServer) -> None:
    async with dispatching(tmp_path, server) as d, working(server, "a") as a, working(server, "b") as b:
        names = await submit_many(d, 40)
        await all_ended(d)
        assert sorted(a.order + b.order) == names


@pytest.mark.parametrize("store_lost", [False, True])
async def test_jobs_outlive_nats(tmp_path: Path, server: NatsServer, store_lost: bool) -> None:
    """nats-server is killed while jobs wait and one runs; some are submitted while it is away."""
    async with dispatching(tmp_path, server) as d:
        names = await submit_many(d, 12)
        async with working(server) as worker:
            await eventually(lambda: len(worker.order) >= 2)
            server.kill()
            names += await submit_many(d, 4, first=12)
            if store_lost:
                server.lose_everything()
            await server.start()
            await all_ended(d)
            assert sorted(job.prompt_id for job in await d.jobs.history(TENANT)) == names
            assert len(worker.order) == len(set(worker.order))


async def test_jobs_outlive_their_gateway(tmp_path: Path, server: NatsServer) -> None:
    async with dispatching(tmp_path, server) as d:
        names = await submit_many(d, 12)
    async with working(server) as worker:
        async with dispatching(tmp_path, server) as d:
            await all_ended(d)
        assert worker.order == names


async def test_a_gateway_may_start_before_nats(tmp_path: Path, server: NatsServer) -> None:
    server.kill()
    async with dispatching(tmp_path, server) as d:
        names = await submit_many(d, 3)
        await server.start()
        async with working(server) as worker:
            await all_ended(d)
            assert worker.order == names


async def test_everything_was_lost_but_sql(tmp_path: Path, server: NatsServer) -> None:
    """The NATS folder was deleted between two starts."""
    async with dispatching(tmp_path, server) as d:
        names = await submit_many(d, 12)
    server.kill()
    server.lose_everything()
    await server.start()
    async with dispatching(tmp_path, server) as d, working(server) as worker:
        await all_ended(d)
        assert worker.order == names
