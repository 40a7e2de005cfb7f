"""Two workers under one id: the newcomer finds out."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from limner.bus.memory import MemoryBus
from limner.bus.messages import Heartbeat
from limner.errors import Misconfigured
from limner.worker import identity
from limner.worker.identity import Identity


def beat(incarnation: str, worker: str = "w") -> Heartbeat:
    return Heartbeat(worker=worker, pool="default", state="idle", version="1", catalogue="", incarnation=incarnation)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "LOOK_SECONDS", 0.001)
    monkeypatch.setattr(identity, "WATCH_SECONDS", 0.05)


async def test_a_worker_whose_id_nobody_bears_knows_it_at_once() -> None:
    bus = MemoryBus()
    await bus.put_worker(beat("x", worker="another"))
    await asyncio.wait_for(Identity(bus, "w").run(), 5)


@pytest.mark.parametrize("before", ["", "x"])
async def test_a_worker_that_was_started_again_is_alone(before: str) -> None:
    """What it was before is shown for a while, and never comes back. Older versions show no incarnation."""
    bus = MemoryBus()
    await bus.put_worker(beat(before))
    newcomer = Identity(bus, "w")
    task = asyncio.create_task(newcomer.run())
    await asyncio.wait_for(newcomer.looked(), 5)
    await bus.put_worker(beat(newcomer.incarnation))
    await asyncio.wait_for(newcomer.alone(), 5)
    await task


async def test_a_worker_whose_id_a_living_one_bears_may_not_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "WATCH_SECONDS", 60.0)
    bus = MemoryBus()
    await bus.put_worker(beat("x"))
    newcomer = Identity(bus, "w")
    task = asyncio.create_task(newcomer.run())
    await asyncio.wait_for(newcomer.looked(), 5)
    for _ in range(20):  # what is still shown of the one before is no sign of life
        await asyncio.sleep(0)
    await bus.put_worker(beat(newcomer.incarnation))
    await asyncio.sleep(0.05)
    assert not task.done()
    await bus.put_worker(beat("x"))
    with pytest.raises(Misconfigured, match="another worker runs as 'w'"):
        await asyncio.wait_for(task, 5)


async def test_while_the_bus_is_away_nothing_is_known() -> None:
    bus = MemoryBus()
    bus.down = True
    newcomer = Identity(bus, "w")
    task = asyncio.create_task(newcomer.run())
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(newcomer.looked(), 0.02)
        raise AssertionError("it cannot know")
    bus.down = False
    await asyncio.wait_for(task, 5)
