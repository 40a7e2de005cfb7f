"""A supervisor that was killed and started again, over an engine that runs on without it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from limner.bus.messages import Claimed, Control, Heartbeat
from limner.errors import Misconfigured
from limner.worker import gateway, identity, leaving, loop, resuming
from tests.unit.worker.stage import Stage, wait_for_interrupt


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway, "FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(gateway, "LONGEST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(leaving, "FAREWELL_SECONDS", 0.2)
    monkeypatch.setattr(identity, "LOOK_SECONDS", 0.001)


@asynccontextmanager
async def started(stage: Stage, *, resumes: bool = True) -> AsyncIterator[Stage]:
    stage.engine.resumes = resumes
    await stage.open()
    try:
        yield stage
    finally:
        await stage.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


async def test_the_job_goes_on_under_its_delivery_and_its_token(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    delivery = await stage.hold()
    async with started(stage):
        done = await stage.ended()
        assert (done.id, done.token, done.outcome) == ("job", "t1", "succeeded")
        [claim] = stage.claims
        assert (claim.resumed, claim.delivery, claim.worker) == (True, delivery, "w")
        [request] = stage.engine.requests
        assert (request.resumed, request.job, request.token) == (True, "job", "t1")
        await stage.tokens_left(0)
        await stage.submit("next")
        assert (await stage.ended()).id == "next"
        assert [claim.resumed for claim in stage.claims] == [True, False]
        assert not stage.engine.requests[1].resumed


async def test_a_job_that_is_no_longer_the_workers_is_left_to_who_has_it(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    stage.claim_answer = Claimed(ok=False, reason="another delivery has the job now")
    await stage.hold()
    async with started(stage):
        await until(lambda: bool(stage.claims) and stage.engine.starts > 0)
        assert await stage.bus.pending("default") == {"job": "any"}, "it was not acknowledged"
        assert stage.engine.requests == []


async def test_what_was_canceled_meanwhile_is_stopped(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    stage.early = [Control(kind="interrupt", id="job", token="t1")]
    stage.engine.script = wait_for_interrupt
    await stage.hold()
    async with started(stage):
        assert (await stage.ended()).outcome == "interrupted"


async def test_of_several_jobs_each_is_asked_for(tmp_path: Path) -> None:
    """An earlier life may have died before it could take up the one that it held before."""
    stage = Stage(tmp_path)
    for job in ("one", "two"):
        await stage.hold(job)
    async with started(stage):
        assert [(await stage.ended()).id, (await stage.ended()).id] == ["one", "two"]
        await stage.tokens_left(0)


async def test_a_delivery_of_another_pool_is_passed_over(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    stage.held = [{"id": "old", "epoch": 0, "delivery": "nonsense"}]
    async with started(stage):
        await stage.submit()
        assert (await stage.ended()).id == "job"


async def test_an_engine_that_does_not_come_back_leaves_the_job_to_another_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "RESUME_SECONDS", 0.05)
    stage = Stage(tmp_path)
    stage.engine.starts_well = False
    await stage.hold()
    async with started(stage), asyncio.timeout(10):
        while await stage.bus.pull("default", ()) is None:
            await asyncio.sleep(0.01)
        assert stage.done.empty()


async def test_a_worker_that_stops_while_its_engine_starts_returns_the_job(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    stage.engine.starts_well = False
    stage.engine.script = wait_for_interrupt
    await stage.hold()
    async with started(stage):
        await until(lambda: stage.engine.starts > 0)
        await stage.worker.drain()
        assert (await stage.ended()).outcome == "returned"


async def test_where_no_gateway_tells_the_worker_goes_on_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resuming, "ASK_SECONDS", 0.05)
    stage = Stage(tmp_path)
    stage.faults += ["resume"] * 10_000
    async with started(stage):
        await stage.submit()
        assert (await stage.ended()).id == "job"


async def test_the_engine_starts_while_no_gateway_tells(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    stage.faults += ["resume"] * 10_000
    delivery = await stage.hold()
    async with started(stage):
        await until(lambda: stage.engine.alive and stage.resumes > 1)
        assert stage.claims == []
        stage.faults.clear()
        assert (await stage.ended()).id == "job"
        assert [(claim.resumed, claim.delivery) for claim in stage.claims] == [(True, delivery)]
        assert stage.engine.starts == 1


async def test_a_worker_that_stops_while_no_gateway_tells_and_its_engine_starts_ends_at_once(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    stage.faults += ["resume"] * 10_000
    stage.engine.starts_well = False
    async with started(stage):
        await until(lambda: stage.engine.starts > 0 and stage.resumes > 0)
        async with asyncio.timeout(5):
            await stage.close()


async def test_an_engine_that_is_away_is_looked_for_every_few_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert loop.LONGEST_LOOK_PAUSE_SECONDS == 5.0
    monkeypatch.setattr(loop, "LONGEST_LOOK_PAUSE_SECONDS", 0.001)
    stage = Stage(tmp_path)
    stage.engine.starts_well = False
    async with started(stage):
        await until(lambda: stage.engine.starts > 5)


async def test_an_engine_that_ends_with_its_supervisor_has_nothing_to_go_on_with(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    async with started(stage, resumes=False):
        await stage.submit()
        await stage.ended()
        assert stage.resumes == 0


async def test_a_job_is_not_taken_from_a_living_worker_of_the_same_id(tmp_path: Path) -> None:
    """The newcomer ends, and says why; what the other shows of itself stays."""
    stage = Stage(tmp_path)
    other = Heartbeat(worker="w", pool="default", state="busy", version="1", catalogue="", incarnation="x")
    await stage.bus.put_worker(other)
    await stage.hold()
    stage.engine.resumes = True
    await stage.open()
    assert stage.task is not None
    async with asyncio.timeout(10):
        while [beat.incarnation for beat in await stage.bus.workers()] == ["x"]:
            await asyncio.sleep(0.001)
        while not stage.task.done():
            await asyncio.sleep(0.01)
            await stage.bus.put_worker(other)
    with pytest.raises(Misconfigured, match="another worker runs as 'w'"):
        await stage.task
    assert stage.claims == []
    assert [beat.incarnation for beat in await stage.bus.workers()] == ["x"]
