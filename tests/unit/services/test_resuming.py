"""Jobs under a worker that was started again, and jobs that a worker cannot run: over a real database."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from limner.bus import subjects
from limner.bus.memory import MemoryBus
from limner.bus.messages import Claim, Claimed, Control, Done, Heartbeat, Resume, Settled
from limner.bus.port import Delivery
from limner.db import release as release_rows
from limner.dispatch.sweep import Sweep
from limner.jobs.model import State
from limner.services.attempts import UNFIT_PATIENCE_SECONDS
from tests.support.durable import Durable, durable

T = "default"
ERROR = {"code": "unfit_worker", "retryable": False, "exception_message": "no such node"}


async def begin(d: Durable, prompt_id: str = "p") -> tuple[Delivery, Claimed]:
    await d.submit(prompt_id)
    taken = await d.take()
    assert taken is not None
    return taken


def asks(delivery: Delivery, worker: str = "w", **more: Any) -> Claim:
    return Claim(id=delivery.token.id, epoch=delivery.token.epoch, worker=worker, delivery=delivery.id, **more)


async def live(d: Durable, **catalogues: str) -> None:
    """Shows these workers with the digests of what they can run."""
    for worker, catalogue in catalogues.items():
        await d.bus.put_worker(Heartbeat(worker=worker, pool="default", state="idle", version="1", catalogue=catalogue))


async def unfit(d: Durable, taken: tuple[Delivery, Claimed], catalogue: str = "a") -> Settled:
    return await d.end(*taken, outcome="unfit", catalogue=catalogue, error=ERROR)


async def test_a_worker_that_was_started_again_goes_on_with_its_job(tmp_path: Path) -> None:
    async with durable(tmp_path) as d:
        delivery, claimed = await begin(d)
        had = await d.attempts.resume(Resume(worker="w"))
        assert had.ok
        assert had.jobs == [{"id": delivery.token.id, "epoch": 0, "delivery": delivery.id}]
        assert (await d.attempts.resume(Resume(worker="another"))).jobs == []
        assert await d.attempts.claim(asks(delivery, resumed=True)) == claimed
        assert (await d.end(delivery, claimed)).ok
        assert (await d.attempts.resume(Resume(worker="w"))).jobs == []


async def test_a_job_that_was_delivered_to_another_is_not_resumed(tmp_path: Path) -> None:
    async with durable(tmp_path) as d:
        delivery, _ = await begin(d)
        await delivery.nak()
        second = await d.take("w2")
        assert second is not None
        refused = await d.attempts.claim(asks(delivery, resumed=True))
        assert (refused.ok, refused.elsewhere) == (False, False)
        assert (await d.attempts.resume(Resume(worker="w"))).jobs == []
        assert (await d.end(*second)).ok, "the resuming worker has changed nothing"


async def test_a_job_that_was_canceled_meanwhile_is_resumed_and_told_to_stop(tmp_path: Path) -> None:
    async with durable(tmp_path) as d:
        delivery, claimed = await begin(d)
        told: list[Control] = []

        async def hear(_subject: str, body: bytes) -> None:
            told.append(Control.decode(body))

        await d.jobs.interrupt(T, None)
        await d.bus.subscribe(subjects.control("w"), hear)
        assert (await d.attempts.resume(Resume(worker="w"))).jobs
        assert (await d.attempts.claim(asks(delivery, resumed=True))).token == claimed.token
        [control] = told
        assert (control.kind, control.id, control.token) == ("interrupt", delivery.token.id, claimed.token)
        assert (await d.end(delivery, claimed, outcome="interrupted")).ok


async def test_the_last_job_that_began_is_resumed_first(tmp_path: Path) -> None:
    async with durable(tmp_path) as d:
        taken = [await begin(d, prompt_id) for prompt_id in ("p", "q")]
        ids = [job["id"] for job in (await d.attempts.resume(Resume(worker="w"))).jobs]
        assert ids == [delivery.token.id for delivery, _ in reversed(taken)]


async def test_a_job_that_its_worker_cannot_run_goes_to_another_one(tmp_path: Path) -> None:
    async with durable(tmp_path) as d:
        await live(d, w="a", w2="b")
        assert (await unfit(d, await begin(d))).ok
        delivery = await d.pull()
        assert delivery is not None
        refused = await d.attempts.claim(asks(delivery, catalogue="a"))
        assert (refused.ok, refused.elsewhere) == (False, True)
        claimed = await d.attempts.claim(asks(delivery, "w2", catalogue="b"))
        assert (claimed.ok, claimed.attempt) == (True, 1)


async def test_a_worker_that_got_the_missing_node_gets_the_job(tmp_path: Path) -> None:
    async with durable(tmp_path) as d:
        await live(d, w="a", w2="b")
        await unfit(d, await begin(d))
        delivery = await d.pull()
        assert delivery is not None
        assert (await d.attempts.claim(asks(delivery, catalogue="a2"))).ok


async def test_a_job_that_no_worker_can_run_has_failed(tmp_path: Path) -> None:
    async with durable(tmp_path) as d:
        await live(d, w="a", w2="a")
        await d.bus.put_worker(Heartbeat(worker="w3", pool="default", state="draining", version="1", catalogue="b"))
        await d.bus.put_worker(Heartbeat(worker="w4", pool="other", state="idle", version="1", catalogue="b"))
        taken = await begin(d)
        assert (await unfit(d, taken)).ok
        entry = await d.jobs.history_entry(T, "p")
        assert entry is not None
        assert (entry.state, entry.error) == (State.FAILED, ERROR)
        told_again = Done(id=taken[0].token.id, token=taken[1].token, outcome="unfit", catalogue="a", error=ERROR)
        assert (await d.attempts.done(told_again)).ok


async def test_an_unfit_workers_job_that_was_canceled_is_canceled(tmp_path: Path) -> None:
    async with durable(tmp_path) as d:
        await live(d, w="a", w2="b")
        taken = await begin(d)
        await d.jobs.interrupt(T, None)
        assert (await unfit(d, taken)).ok
        assert await d.jobs.remaining(T) == 0
        assert await d.take("w2") is None


async def test_a_job_that_waits_in_vain_for_a_fit_worker_fails(tmp_path: Path) -> None:
    """The one that could have run it has gone for good."""
    async with durable(tmp_path) as d:
        await live(d, w="a", w2="b")
        await unfit(d, await begin(d))
        delivery = await d.pull()
        assert delivery is not None
        await d.bus.drop_worker("w2")
        asked = asks(delivery, catalogue="a")
        assert (await d.attempts.claim(asked)).elsewhere
        assert await d.jobs.remaining(T) == 1, "another may come yet"
        late = text("UPDATE jobs SET changed_at = changed_at - :s")
        await d.db.write(lambda c: c.execute(late, {"s": UNFIT_PATIENCE_SECONDS}))
        await live(d, w2="b")
        assert (await d.attempts.claim(asked)).elsewhere
        assert await d.jobs.remaining(T) == 1, "it came"
        await d.bus.drop_worker("w2")
        assert (await d.attempts.claim(asked)).elsewhere
        entry = await d.jobs.history_entry(T, "p")
        assert entry is not None
        assert entry.error is not None
        assert entry.error["code"] == "unfit_worker"
        assert d.kinds().count("Ended") == 1
        refused = await d.attempts.claim(replace(asked, worker="w2", catalogue="b"))
        assert (refused.ok, refused.elsewhere) == (False, False)


async def test_a_worker_that_nats_has_yet_to_hear_of_again_is_still_hoped_for(tmp_path: Path) -> None:
    """The list of workers lies in the memory of nats-server, which was started again."""
    bus = MemoryBus()
    async with durable(tmp_path, bus) as d:
        await live(d, w="a", w2="b")
        await Sweep(d.db, bus, d.release).run_once()
        bus.lose_everything()
        await live(d, w="a")
        assert (await unfit(d, await begin(d))).ok
        delivery = await d.pull()
        assert delivery is not None, "it waits for w2"
        late = text("UPDATE jobs SET changed_at = changed_at - :s")
        await d.db.write(lambda c: c.execute(late, {"s": UNFIT_PATIENCE_SECONDS}))
        assert (await d.attempts.claim(asks(delivery, catalogue="a"))).elsewhere
        assert await d.jobs.remaining(T) == 1
        assert (await d.attempts.claim(asks(delivery, "w2", catalogue="b"))).ok


async def test_very_many_jobs_that_wait_for_another_worker_take_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(release_rows, "MOST_AVOIDING", 2)
    async with durable(tmp_path) as d:
        await live(d, w="a", w2="b")
        for each in [await begin(d, f"foreign {number}") for number in range(5)]:
            await unfit(d, each)
        room = await d.db.read(lambda c: release_rows.room(c, "default", 8))
        assert room.free == 5


async def test_jobs_that_wait_for_another_worker_leave_room_for_those_that_need_not(tmp_path: Path) -> None:
    async with durable(tmp_path) as d:
        await live(d, w="a", w2="b")
        taken = [await begin(d, f"foreign {number}") for number in range(d.release.window + 2)]
        for each in taken:
            await unfit(d, each)
        await d.submit("plain")
        pulled = set()
        while delivery := await d.pull():
            pulled.add(delivery.token.id)
        assert len(pulled) == len(taken) + 1
