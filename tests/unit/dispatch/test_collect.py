"""What is cleared away from the store, and what stays."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import text

from limner.blobs.keys import attempt_prefix, catalogue_key, input_key, temp_key
from limner.bus.messages import Claimed
from limner.bus.port import Delivery
from limner.dispatch.collect import LATE_SECONDS, TEMP_AGE, Collector
from tests.support.durable import TENANT, Durable, durable

BACK_IN_TIME = text("UPDATE jobs SET ended_at = ended_at - :s")


async def take(d: Durable) -> tuple[Delivery, Claimed, str]:
    """The next job, with one picture stored."""
    taken = await d.take()
    assert taken is not None
    key = f"{taken[1].key_prefix}0.png"
    await d.blobs.put(key, b"picture")
    return *taken, key


async def pass_time(d: Durable) -> None:
    await d.db.write(lambda c: c.execute(BACK_IN_TIME, {"s": LATE_SECONDS}))


async def test_only_the_attempt_that_ended_a_job_keeps_its_files(tmp_path: Path) -> None:
    async with durable(tmp_path) as d:
        collector = Collector(d.db, d.blobs)
        await d.submit("p")
        delivery, _claimed, lost = await take(d)
        await delivery.nak()
        delivery, claimed, kept = await take(d)
        await collector.run_once()
        assert await d.blobs.size(lost) is not None, "while the job is open any attempt may still end it"
        await d.end(delivery, claimed)
        await collector.run_once()
        assert await d.blobs.size(lost) is not None, "its worker may still be storing files"
        await pass_time(d)
        await collector.run_once()
        assert await d.blobs.size(lost) is None
        assert await d.blobs.size(kept) is not None


async def test_a_job_that_no_attempt_ended_keeps_no_files(tmp_path: Path) -> None:
    async with durable(tmp_path) as d:
        d.release.window = 1
        await d.submit("p")
        delivery, claimed, lost = await take(d)
        d.release.window = 0
        await d.end(delivery, claimed, "returned")
        assert await d.jobs.cancel_waiting(TENANT, None) == 1
        await pass_time(d)
        await Collector(d.db, d.blobs).run_once()
        assert await d.blobs.size(lost) is None


async def test_an_ordinary_job_is_not_touched(tmp_path: Path) -> None:
    async with durable(tmp_path) as d:
        job = await d.submit("p")
        delivery, claimed, kept = await take(d)
        other = attempt_prefix(TENANT, job.id, "another", job.created_at) + "0.png"
        await d.blobs.put(other, b"x")
        await d.end(delivery, claimed)
        await pass_time(d)
        await Collector(d.db, d.blobs).run_once()
        assert await d.blobs.list("t") == sorted([kept, other]), "the store need not even be asked"


async def test_temp_files_go_after_a_day(tmp_path: Path) -> None:
    async with durable(tmp_path) as d:
        old, new, upload = temp_key("a", "", "old.png"), temp_key("b", "", "new.png"), input_key("a", "ff")
        for key in (old, new, upload):
            await d.blobs.put(key, b"x")
            d.blobs._written_at[key] = datetime.now(UTC) - TEMP_AGE - timedelta(seconds=1)
        await d.blobs.put(new, b"again")
        await Collector(d.db, d.blobs).run_once()
        assert await d.blobs.list("t") == sorted([new, upload])


async def test_catalogues_that_were_handed_over_go_after_a_day(tmp_path: Path) -> None:
    async with durable(tmp_path) as d:
        old, new = catalogue_key("0"), catalogue_key("1")
        for key in (old, new):
            await d.blobs.put(key, b"{}")
        d.blobs._written_at[old] = datetime.now(UTC) - TEMP_AGE - timedelta(seconds=1)
        await Collector(d.db, d.blobs).run_once()
        assert await d.blobs.list("catalogues") == [new]
