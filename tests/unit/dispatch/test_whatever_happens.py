"""Random histories of submits, ends and crashes: every accepted job ends exactly once, and the books balance."""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from pathlib import Path
from typing import Literal

from hypothesis import example, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from limner.bus.memory import MemoryBus
from limner.bus.messages import Claim, Claimed, Done, Heartbeat
from limner.bus.port import Delivery
from limner.db.session import Connection
from limner.dispatch.sweep import Sweep
from tests.support.durable import TENANT, Durable, durable

Step = Literal[
    "submit",
    "take",
    "succeed",
    "fail",
    "fail for now",
    "return",
    "unfit",
    "supervisor starts again",
    "worker dies",
    "worker dies after done",
    "late report",
    "cancel",
    "cancel all",
    "interrupt",
    "bus dies",
    "bus is made again",
    "sweep",
    "time passes",
]
STEPS: list[Step] = list(Step.__args__)  # type: ignore[attr-defined]
OUTCOMES = {"succeed": "succeeded", "fail": "failed", "fail for now": "failed", "return": "returned", "unfit": "unfit"}


class World:
    """Three workers' worth of tokens in hand, and those of workers that were thought dead."""

    def __init__(self, d: Durable, bus: MemoryBus) -> None:
        self.d = d
        self.bus = bus
        self.sweep = Sweep(d.db, bus, d.release)
        self.submitted: list[str] = []
        self.running: list[tuple[Delivery, Claimed]] = []
        self.thought_dead: list[tuple[Delivery, Claimed]] = []

    async def do(self, step: Step) -> None:
        match step:
            case "submit":
                self.submitted.append(f"p{len(self.submitted)}")
                self.d.release.live_workers(2)  # so that there are lanes
                await self.d.submit(self.submitted[-1], models=[f"m{len(self.submitted) % 3}"])
            case "take":
                if len(self.running) < 3 and (taken := await self.d.take(f"w{len(self.running)}")):
                    self.running.append(taken)
            case "succeed" | "fail" | "fail for now" | "return" | "unfit":
                if self.running:
                    await self.report(*self.running.pop(0), step)
            case "supervisor starts again":
                for delivery, claimed in [*self.running, *self.thought_dead]:
                    await self.resume(delivery, claimed)
            case "worker dies":
                if self.running:
                    delivery, claimed = self.running.pop()
                    await delivery.nak()  # as its lease ends
                    self.thought_dead.append((delivery, claimed))
            case "worker dies after done":
                if self.running:
                    delivery, claimed = self.running.pop()
                    await self.d.attempts.done(
                        Done(id=delivery.token.id, token=claimed.token, outcome="succeeded", outputs={})
                    )
                    await delivery.nak()
            case "late report":
                if self.thought_dead:
                    delivery, claimed = self.thought_dead.pop()
                    told = Done(id=delivery.token.id, token=claimed.token, outcome="succeeded")
                    await self.d.attempts.done(told)
            case "cancel":
                await self.d.jobs.cancel_waiting(TENANT, self.submitted[-2:-1])
            case "cancel all":
                await self.d.jobs.cancel_waiting(TENANT, None)
            case "interrupt":
                await self.d.jobs.interrupt(TENANT, None)
            case "bus dies":
                self.bus.lose_everything()
            case "bus is made again":
                for part in ("bus dies", "time passes", "sweep"):
                    await self.do(part)  # type: ignore[arg-type]
            case "sweep":
                await self.sweep.run_once()
            case "time passes":
                await self.d.db.write(pass_time)
                await self.d.release.run_once()
        await self.d.settle()

    async def resume(self, delivery: Delivery, claimed: Claimed) -> None:
        """It gets what it had or nothing, and changes nothing but the count of losses."""
        before = await self.d.db.read(attempts_made)
        for worker in ("w0", "w1", "w2"):
            asked = Claim(
                id=delivery.token.id, epoch=delivery.token.epoch, worker=worker, delivery=delivery.id, resumed=True
            )
            answer = await self.d.attempts.claim(asked)
            assert answer.token in ("", claimed.token)
        assert await self.d.db.read(attempts_made) == before

    async def report(self, delivery: Delivery, claimed: Claimed, step: str) -> None:
        error = {"code": "upload_failed", "retryable": step == "fail for now"} if step.startswith("fail") else None
        if step == "unfit" and len(self.submitted) % 2:  # every other time somebody else may be able to
            beat = Heartbeat(worker="w9", pool="default", state="idle", version="1", catalogue="b")
            await self.bus.put_worker(beat)
        await self.d.end(delivery, claimed, OUTCOMES[step], error=error, catalogue="a")

    async def recover(self) -> None:
        """Everything works again, and every worker that still has a job finishes it."""
        for _ in range(40):
            while self.running:
                await self.do("succeed")
            for step in ("time passes", "sweep", "time passes", "take", "take", "take"):
                await self.do(step)  # type: ignore[arg-type]
            if not self.running and not await self.d.jobs.remaining(TENANT):
                return
        raise AssertionError(f"jobs are stuck: {await self.d.jobs.queue(TENANT)}")


def pass_time(connection: Connection) -> None:
    sql = "UPDATE jobs SET changed_at = changed_at - 400, run_at = run_at - 400 WHERE ended_at IS NULL"
    connection.execute(text(sql))


def attempts_made(connection: Connection) -> list[tuple[object, ...]]:
    sql = "SELECT id, state, epoch, attempts, token, worker, delivery FROM jobs ORDER BY seq"
    return [tuple(row) for row in connection.execute(text(sql))]


def books(connection: Connection) -> tuple[int, int, int]:
    """(open jobs as counted, open jobs as they are, attempts that never ended)"""
    counted = connection.execute(text("SELECT coalesce(sum(open_jobs), 0) FROM tenants")).scalar_one()
    actual = connection.execute(text("SELECT count(*) FROM jobs WHERE ended_at IS NULL")).scalar_one()
    attempts = connection.execute(
        text(
            "SELECT count(*) FROM attempts JOIN jobs ON jobs.seq = attempts.job "
            "WHERE attempts.ended_at IS NULL AND jobs.ended_at IS NOT NULL"
        )
    ).scalar_one()
    return counted, actual, attempts


@settings(max_examples=40, deadline=None)
@example(["submit", "take", "bus is made again", "take", "late report"])
@example(["submit", "take", "bus is made again", "cancel all", "succeed"])
@example(["submit", "take", "interrupt", "bus is made again", "succeed"])
@example(["submit", *["take", "worker dies"] * 4, "late report"])
@example(["submit", "take", "unfit", "take", "worker dies", "supervisor starts again", "unfit"])
@given(st.lists(st.sampled_from([*STEPS, "submit", "take", "take"]), max_size=30))
def test_every_job_ends_exactly_once(steps: list[Step]) -> None:
    async def play() -> None:
        with tempfile.TemporaryDirectory() as folder:
            bus = MemoryBus()
            async with durable(Path(folder), bus) as d:
                world = World(d, bus)
                for step in steps:
                    await world.do(step)
                    counted, actual, _ = await d.db.read(books)
                    assert counted == actual
                await world.recover()
                assert await d.db.read(books) == (0, 0, 0)
                ends = Counter(event.prompt_id for event in d.heard if event.kind == "Ended")
                shown = [job.prompt_id for job in await d.jobs.history(TENANT)]
                assert ends == Counter(shown)
                assert set(shown) <= set(world.submitted)
                assert all(count == 1 for count in ends.values())

    asyncio.run(play())
