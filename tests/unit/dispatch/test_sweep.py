"""What the sweep puts right, and what it leaves alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from sqlalchemy import text

from limner.bus.memory import MemoryBus
from limner.bus.messages import Control, Done, Heartbeat, Reserve, Token
from limner.db import history as history_rows
from limner.db import release as release_rows
from limner.db.release import Released
from limner.db.session import Connection
from limner.dispatch.sweep import GRACE_SECONDS, Sweep
from limner.errors import Unavailable
from limner.jobs.model import State
from tests.support.durable import WORKFLOW, Durable, durable

T = "default"


@asynccontextmanager
async def swept(folder: Path) -> AsyncIterator[tuple[Durable, MemoryBus, Sweep]]:
    bus = MemoryBus()
    async with durable(folder, bus) as d:
        yield d, bus, Sweep(d.db, bus, d.release)


PASS_TIME = """
    UPDATE jobs SET changed_at = changed_at - :s, ranked_at = ranked_at - :s,
        run_at = CASE WHEN run_at = 0 THEN 0 ELSE run_at - :s END
"""


async def pass_time(d: Durable, seconds: float = GRACE_SECONDS) -> None:
    await d.db.write(lambda c: c.execute(text(PASS_TIME), {"s": seconds}))


async def test_the_gateway_died_between_commit_and_publish(tmp_path: Path) -> None:
    async with swept(tmp_path) as (d, bus, sweep):
        await d.submit("p")
        bus.lose_everything()
        assert await sweep.run_once() == 0, "a token may still be on its way"
        await pass_time(d)
        assert await sweep.run_once() == 1
        taken = await d.take()
        assert taken is not None
        assert (taken[1].prompt_id, taken[1].attempt) == ("p", 1)


async def test_a_gateway_that_is_told_to_stop_sends_what_it_has_released(tmp_path: Path) -> None:
    async with swept(tmp_path) as (d, bus, _sweep):
        for _ in range(5):
            await d.jobs.submit(tenant=T, workflow=WORKFLOW, outputs=["1"], extra_data={})
        await d.release.stop()
        assert len(await bus.pending("default")) == 5


async def test_jobs_that_were_submitted_within_a_moment_go_back_together(tmp_path: Path) -> None:
    """Were some of them put back a round later, those behind them would have been released before."""
    async with swept(tmp_path) as (d, bus, sweep):
        names = []
        for n in range(12):
            names.append((await d.submit(f"p{n:02}")).prompt_id)
            await pass_time(d, 0.03)
        bus.lose_everything()
        await pass_time(d, GRACE_SECONDS - 12 * 0.03)  # the first has its age, the eighth has not
        assert await sweep.run_once() == 8
        order = []
        while taken := await d.take():
            order.append(taken[1].prompt_id)
        assert order == names


async def test_a_token_on_its_way_is_not_missed(tmp_path: Path) -> None:
    """A busy sender may need longer than the grace; each token put back would be one more for it to send."""
    async with swept(tmp_path) as (d, bus, sweep):
        bus.down = True
        await d.jobs.submit(tenant=T, workflow=WORKFLOW, outputs=["1"], extra_data={})
        await pass_time(d)
        bus.down, send = False, bus.publish_token
        gate = asyncio.Event()

        async def slowly(pool: str, lane: str, token: Token) -> None:
            await gate.wait()
            await send(pool, lane, token)

        bus.publish_token = slowly  # type: ignore[method-assign]
        assert await sweep.run_once() == 0
        gate.set()
        taken = await d.take()
        assert taken is not None
        assert taken[0].token.epoch == 0


async def test_only_the_last_of_a_jobs_errands_is_run(tmp_path: Path) -> None:
    async with swept(tmp_path) as (d, bus, _sweep):
        sent: list[str] = []

        async def publish(_pool: str, _lane: str, token: Token) -> None:
            sent.append(f"{token.id}.{token.epoch}")

        async def purge(_pool: str, _lane: str, job_id: str) -> None:
            sent.append(f"-{job_id}")

        bus.publish_token, bus.purge = publish, purge  # type: ignore[method-assign]
        a0, a1, b = (Released(id=i, pool="default", lane="any", epoch=e) for i, e in (("a", 0), ("a", 1), ("b", 0)))
        d.release.publish([a0, b])
        d.release.take_back([a0])
        d.release.publish([a1])
        d.release.take_back([b])
        assert d.release.sending() == {"a", "b"}
        await d.settle()
        assert sent == ["a.1", "-b"]
        d.release.publish([b])
        await d.settle()
        assert sent == ["a.1", "-b", "b.0"]


async def test_a_token_that_can_never_be_sent_does_not_hold_up_the_others(tmp_path: Path) -> None:
    async with swept(tmp_path) as (d, bus, sweep):
        send = bus.publish_token

        async def stumble(pool: str, lane: str, token: Token) -> None:
            bus.publish_token = send  # type: ignore[method-assign]
            raise ValueError("a bug")

        bus.publish_token = stumble  # type: ignore[method-assign]
        first, second = await d.submit("p"), await d.submit("q")
        assert set(await bus.pending("default")) == {second.id}
        await pass_time(d)
        assert await sweep.run_once() == 1
        await d.settle()
        assert set(await bus.pending("default")) == {first.id, second.id}


async def test_a_clock_that_is_set_back_does_not_stop_the_queue(tmp_path: Path) -> None:
    async with swept(tmp_path) as (d, _bus, _sweep):
        d.release.window = 0
        await d.submit("p")
        d.release.window = 8
        await pass_time(d, -3600)
        await d.release.run_once()
        taken = await d.take()
        assert taken is not None
        await d.end(*taken, outcome="returned")
        await pass_time(d, -3600)
        await d.release.run_once()
        assert await d.take() is not None


async def test_names_that_a_canceled_job_had_reserved_are_free_again(tmp_path: Path) -> None:
    """A returned job has no attempt that counts, and is canceled with many others at once."""
    async with swept(tmp_path) as (d, _bus, sweep):
        await d.submit("p")
        taken = await d.take()
        assert taken is not None
        reserve = Reserve(
            id=taken[0].token.id, token=taken[1].token, call=0, subfolder="", prefix="a", extension=".png", count=1
        )
        assert (await d.attempts.reserve(reserve)).ok
        await sweep._keep_house("default")
        assert await d.db.read(reserved_names) == 1, "its job is still open"
        d.release.window = 0
        await d.end(*taken, outcome="returned")
        assert await d.jobs.cancel_waiting(T, None) == 1
        sweep._last_housekeeping = -1e9
        await sweep._keep_house("default")
        assert await d.db.read(reserved_names) == 0


def reserved_names(connection: Connection) -> int:
    return int(connection.execute(text("SELECT count(*) FROM files WHERE size_bytes IS NULL")).scalar_one())


async def test_a_lost_store_brings_every_open_job_back_in_its_order(tmp_path: Path) -> None:
    async with swept(tmp_path) as (d, bus, sweep):
        for place in range(20):
            await d.submit(f"p{place:02}")
        first = await d.take()
        assert first is not None
        bus.lose_everything()
        await pass_time(d)
        await sweep.run_once()
        order = []
        while taken := await d.take():
            order.append(taken[1].prompt_id)
            assert (await d.end(*taken)).ok
        assert order == [f"p{place:02}" for place in range(20)]
        late = await d.attempts.done(Done(id=first[0].token.id, token=first[1].token, outcome="succeeded"))
        assert not late.ok
        assert await d.jobs.remaining(T) == 0
        assert len(await d.jobs.history(T)) == 20


async def test_a_worker_that_goes_on_may_finish_a_job_that_was_put_back(tmp_path: Path) -> None:
    async with swept(tmp_path) as (d, bus, sweep):
        await d.submit("p")
        taken = await d.take()
        assert taken is not None
        bus.lose_everything()
        await pass_time(d)
        assert await sweep.run_once() == 1
        assert (await d.end(*taken)).ok
        assert await d.take() is None
        assert await d.jobs.remaining(T) == 0


async def test_jobs_with_their_tokens_are_left_alone(tmp_path: Path) -> None:
    async with swept(tmp_path) as (d, _bus, sweep):
        d.release.window = 2
        for place in range(5):
            await d.submit(f"p{place}")
        taken = await d.take()
        assert taken is not None
        await pass_time(d, 3600)
        assert await sweep.run_once() == 0
        assert (await d.end(*taken)).ok


async def test_a_bus_that_cannot_tell_is_not_read_as_an_empty_one(tmp_path: Path) -> None:
    async with swept(tmp_path) as (d, bus, sweep):
        await d.submit("p")
        await pass_time(d)
        bus.down = True
        with pytest.raises(Unavailable):
            await sweep.run_once()
        bus.down = False
        delivery = await d.pull()
        assert delivery is not None
        assert delivery.token.epoch == 0


async def test_a_lost_interrupt_is_sent_again(tmp_path: Path) -> None:
    async with swept(tmp_path) as (d, bus, sweep):
        await d.submit("p")
        taken = await d.take()
        assert taken is not None
        assert await d.jobs.interrupt(T, "p") == 1
        heard: list[Control] = []

        async def hear(_subject: str, body: bytes) -> None:
            heard.append(Control.decode(body))

        await bus.subscribe("limner.ctl.w", hear)
        await pass_time(d)
        await sweep.run_once()
        assert [(message.kind, message.token) for message in heard] == [("interrupt", taken[1].token)]


async def test_a_canceling_job_whose_token_is_gone_is_canceled(tmp_path: Path) -> None:
    async with swept(tmp_path) as (d, bus, sweep):
        await d.submit("p")
        assert await d.take() is not None
        await d.jobs.interrupt(T, "p")
        bus.lose_everything()
        await pass_time(d)
        await sweep.run_once()
        entry = await d.jobs.history_entry(T, "p")
        assert entry is not None
        assert entry.state is State.CANCELED


async def test_the_window_follows_the_live_workers(tmp_path: Path) -> None:
    async with swept(tmp_path) as (d, bus, sweep):
        for number in range(10):
            await bus.put_worker(
                Heartbeat(worker=f"w{number}", pool="default", state="idle", version="1", catalogue="")
            )
        await bus.put_worker(Heartbeat(worker="x", pool="another", state="idle", version="1", catalogue=""))
        await sweep.run_once()
        assert d.release.window == 20


async def test_a_delayed_job_is_released_once_its_time_has_come(tmp_path: Path) -> None:
    async with swept(tmp_path) as (d, _bus, _sweep):
        await d.submit("p")
        taken = await d.take()
        assert taken is not None
        await d.end(*taken, outcome="failed", error={"code": "upload_failed", "retryable": True})
        await d.release.run_once()
        assert await d.take() is None
        await pass_time(d, 7)
        await d.release.run_once()
        again = await d.take()
        assert again is not None
        assert again[1].attempt == 2


async def test_what_others_keep_passing_rises_and_equals_keep_their_order(tmp_path: Path) -> None:
    async with swept(tmp_path) as (d, _bus, _sweep):
        d.release.window = 0
        await d.submit("low", priority=-1)
        await d.submit("b", number=2.0)
        await d.submit("a", number=1.0)
        for _ in range(2):
            await pass_time(d, release_rows.AGE_SECONDS)
            await d.db.write(lambda c: release_rows.raise_the_passed(c, "default"))
        pending = [job.prompt_id for job in (await d.jobs.queue(T)).pending]
        assert pending == ["low", "a", "b"], "its number is the smallest, now that all have one rank"


async def test_the_history_is_bounded_and_files_stay(tmp_path: Path) -> None:
    async with swept(tmp_path) as (d, _bus, _sweep):
        await d.files.upload(T, folder="output", subfolder="", filename="a.png", data=b"x")
        for name in ("a", "b", "c", "d"):
            await d.run(name)
        await d.jobs.hide(T, ["a"])
        await d.submit("open")
        assert await d.db.write(lambda c: history_rows.forget_the_oldest(c, 2)) == 1
        assert [job.prompt_id for job in await d.jobs.history(T)] == ["c", "d"]
        assert await d.jobs.remaining(T) == 1
        assert await d.files.find(T, type="output", subfolder="", filename="a.png") is not None
        orphans = "SELECT count(*) FROM job_requests WHERE job NOT IN (SELECT seq FROM jobs)"
        assert await d.db.read(lambda c: c.execute(text(orphans)).scalar()) == 0
