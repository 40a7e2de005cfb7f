"""The lease: beats for what is held, and only for that."""

from __future__ import annotations

import asyncio

from limner.bus.memory import MemoryBus
from limner.bus.messages import Token
from limner.worker.lease import Lease


class Held:
    """A delivery that counts its signs of life."""

    id = "d"
    token = Token(id="job", epoch=0)

    def __init__(self) -> None:
        self.beats = asyncio.Semaphore(0)

    async def ack(self) -> None: ...

    async def in_progress(self) -> None:
        self.beats.release()

    async def nak(self, delay_seconds: float = 0.0) -> None: ...


async def test_a_held_delivery_is_kept_alive_until_it_is_let_go() -> None:
    lease, held = Lease(MemoryBus(), beat_seconds=0.001), Held()
    beating = asyncio.create_task(lease.run())
    with lease.holding(held):
        async with asyncio.timeout(5):
            for _ in range(3):
                await held.beats.acquire()
    held.beats = asyncio.Semaphore(0)
    other = Held()
    with lease.holding(other):
        async with asyncio.timeout(5):
            for _ in range(3):
                await other.beats.acquire()
    assert held.beats.locked()  # not one more
    beating.cancel()


async def test_beats_go_on_after_the_bus_was_away() -> None:
    bus = MemoryBus()
    lease, held = Lease(bus, beat_seconds=0.001), Held()
    bus.down = True
    beating = asyncio.create_task(lease.run())
    with lease.holding(held):
        for _ in range(20):
            await asyncio.sleep(0)
        assert held.beats.locked()
        bus.down = False
        async with asyncio.timeout(5):
            await held.beats.acquire()
    beating.cancel()
