"""Supervisors that are killed, over a real nats-server and a real database: their engines go on without them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from limner.blobs.memory import MemoryStore
from limner.bus.jetstream import JetStreamBus
from limner.bus.messages import Claim, Claimed, Heartbeat
from limner.bus.port import Delivery
from limner.enginehost.protocol import RunRequest
from limner.jobs.model import State
from limner.worker import elsewhere
from limner.worker.engines.port import RunEnded, Sink
from limner.worker.loop import Worker, WorkerConfig
from tests.contract.dispatch.parts import all_ended, dispatching, eventually, submit_many, working
from tests.support.durable import TENANT, Durable
from tests.support.nats import NatsServer
from tests.unit.worker.stage import INFO, FakeEngine, succeed

LACKING: dict[str, Any] = {"nodes": {"Other": {}}}


async def killed_with_a_job(d: Durable, server: NatsServer, worker: str) -> tuple[Delivery, Claimed]:
    """What a supervisor had that was killed: its connection is gone without a word."""
    await submit_many(d, 1)
    bus = await JetStreamBus.connect(server.url, name=worker)
    delivery = None
    async with asyncio.timeout(10):
        while delivery is None:
            delivery = await bus.pull("default", ("any",))
    asked = Claim(id=delivery.token.id, epoch=delivery.token.epoch, worker=worker, delivery=delivery.id)
    claimed = await d.attempts.claim(asked)
    assert claimed.ok
    await bus.close()
    return delivery, claimed


@asynccontextmanager
async def supervising(server: NatsServer, folder: Path, engine: FakeEngine, name: str) -> AsyncIterator[Worker]:
    """A whole supervisor over this engine."""
    bus = await JetStreamBus.connect(server.url, name=name)
    config = WorkerConfig(id=name, pool="default", scratch=folder / name)
    worker = Worker(config=config, bus=bus, blobs=MemoryStore(), engine=engine)
    task = asyncio.create_task(worker.run())
    try:
        yield worker
    finally:
        await worker.drain()
        await asyncio.wait_for(task, 15)
        await bus.close()


async def attempts(d: Durable) -> list[tuple[str, str]]:
    """(worker, outcome) of each attempt, in order."""
    sql = text("SELECT worker, outcome FROM attempts ORDER BY started_at")
    return [tuple(row) for row in await d.db.read(lambda connection: connection.execute(sql).all())]


def resuming() -> FakeEngine:
    engine = FakeEngine(succeed)
    engine.resumes = True
    return engine


async def test_the_next_supervisor_goes_on_with_the_job_as_the_same_attempt(tmp_path: Path, server: NatsServer) -> None:
    async with dispatching(tmp_path, server) as d:
        _, claimed = await killed_with_a_job(d, server, "comfy")
        engine = resuming()
        async with supervising(server, tmp_path, engine, "comfy"):
            await all_ended(d)
        [request] = engine.requests
        assert (request.resumed, request.token) == (True, claimed.token)
        assert await attempts(d) == [("comfy", "succeeded")]
        [job] = await d.jobs.history(TENANT)
        assert (job.state, job.attempts, job.losses) == (State.SUCCEEDED, 1, 1)
        assert await d.bus.pending("default") == {}


async def test_a_job_that_was_canceled_while_nobody_supervised_it_is_stopped(
    tmp_path: Path, server: NatsServer
) -> None:
    async def run_until_stopped(engine: FakeEngine, request: RunRequest, sink: Sink) -> RunEnded:
        await engine.interrupted.wait()
        return RunEnded(outcome="interrupted", end={"node": {}, "node_type": "", "executed": []})

    async with dispatching(tmp_path, server) as d:
        await killed_with_a_job(d, server, "comfy")
        await d.jobs.interrupt(TENANT, None)
        engine = resuming()
        engine.script = run_until_stopped
        async with supervising(server, tmp_path, engine, "comfy"):
            await all_ended(d)
        assert await attempts(d) == [("comfy", "interrupted")]


async def test_a_job_that_another_worker_took_meanwhile_stays_there(tmp_path: Path, server: NatsServer) -> None:
    async with dispatching(tmp_path, server) as d:
        delivery, _ = await killed_with_a_job(d, server, "comfy")
        bus = await JetStreamBus.connect(server.url, name="gone")
        restored = bus.restore("default", delivery.id, delivery.token)
        assert restored is not None
        await restored.nak()  # as its lease ends
        await bus.close()
        async with working(server, "another") as other:
            await eventually(lambda: bool(other.order))
        engine = resuming()
        async with supervising(server, tmp_path, engine, "comfy"):
            await all_ended(d)
            names = await submit_many(d, 1, first=1)
            await all_ended(d)
        assert [request.resumed for request in engine.requests] == [False]
        assert await attempts(d) == [("comfy", "lost"), ("another", "succeeded"), ("comfy", "succeeded")]
        assert [job.prompt_id for job in await d.jobs.history(TENANT)] == ["p000", *names]


async def test_a_job_finds_the_worker_that_has_its_nodes(
    tmp_path: Path, server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever gets it first: one that lacks them gives it back, and is not asked again."""
    monkeypatch.setattr(elsewhere, "SHORTEST_SECONDS", 0.2)
    unfit, fit = FakeEngine(succeed), FakeEngine(succeed)
    unfit.told = replace(INFO, catalogue=LACKING, digest="lacking")
    async with (
        dispatching(tmp_path, server) as d,
        supervising(server, tmp_path, unfit, "unfit"),
    ):
        await eventually(lambda: unfit.alive)
        beat = Heartbeat(worker="fit", pool="default", state="starting", version="1", catalogue="")
        await d.bus.put_worker(beat)
        names = await submit_many(d, 10)
        async with supervising(server, tmp_path, fit, "fit"):
            await all_ended(d)
        assert [job.state for job in await d.jobs.history(TENANT)] == [State.SUCCEEDED] * len(names)
        assert unfit.requests == []
        told = await attempts(d)
        assert {worker for worker, outcome in told if outcome == "succeeded"} == {"fit"}
        assert len([each for each in told if each == ("unfit", "unfit")]) <= len(names)
