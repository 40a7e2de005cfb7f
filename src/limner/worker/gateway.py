"""What a worker asks of the gateways: over the bus, repeated until one answers. Every request may be repeated."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from limner import logs
from limner.bus import subjects
from limner.bus.messages import (
    CatalogueAnswer,
    CatalogueOffer,
    Claim,
    Claimed,
    Done,
    Keep,
    Message,
    Reserve,
    Reserved,
    Resume,
    Resumed,
    Settled,
)
from limner.bus.port import Bus, Delivery
from limner.errors import PayloadTooLarge, Unavailable

M = TypeVar("M", bound=Message)
log = logs.get("worker")

ANSWER_SECONDS = 5.0
FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 2.0
MAX_MESSAGE_BYTES = 8 * 1024 * 1024 - 4096  # NATS takes 8 MB; the rest is for its headers


class Gateways:
    """`worker` is this worker's id. Each call gives up, with Unavailable, only when its `go_on` says so.

    Raises PayloadTooLarge for what no bus will ever take.
    """

    def __init__(self, bus: Bus, worker: str) -> None:
        self._bus = bus
        self._worker = worker

    async def claim(
        self, delivery: Delivery, *, catalogue: str, resumed: bool = False, go_on: Callable[[], bool]
    ) -> Claimed:
        """`catalogue`: digest of what the engine can run. `resumed`: only what this delivery was granted before."""
        claim = Claim(
            id=delivery.token.id,
            epoch=delivery.token.epoch,
            worker=self._worker,
            delivery=delivery.id,
            catalogue=catalogue,
            resumed=resumed,
        )
        return await self._ask(subjects.CLAIM, claim, Claimed, go_on)

    async def resume(self, *, go_on: Callable[[], bool]) -> Resumed:
        """Which jobs this worker held when it ended."""
        return await self._ask(subjects.RESUME, Resume(worker=self._worker), Resumed, go_on)

    async def done(self, done: Done, *, go_on: Callable[[], bool]) -> Settled:
        return await self._ask(subjects.DONE, done, Settled, go_on)

    async def reserve(self, reserve: Reserve, *, go_on: Callable[[], bool]) -> Reserved:
        return await self._ask(subjects.RESERVE, reserve, Reserved, go_on)

    async def keep(self, keep: Keep, *, go_on: Callable[[], bool]) -> Reserved:
        return await self._ask(subjects.KEEP, keep, Reserved, go_on)

    async def offer(self, offer: CatalogueOffer, *, go_on: Callable[[], bool]) -> CatalogueAnswer:
        return await self._ask(subjects.CATALOGUE, offer, CatalogueAnswer, go_on)

    async def _ask(self, subject: str, message: Message, answer: type[M], go_on: Callable[[], bool]) -> M:
        pause, warned = FIRST_PAUSE_SECONDS, False
        while True:
            try:
                return await self._bus.request(subject, message, answer, ANSWER_SECONDS)
            except Unavailable as error:
                _check_size(message)
                if not go_on():
                    raise
                if pause == LONGEST_PAUSE_SECONDS and not warned:
                    log.warning("no gateway answers; asking again", subject=subject, error=error.message)
                    warned = True
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)


def _check_size(message: Message) -> None:
    size = len(message.encode())
    if size > MAX_MESSAGE_BYTES:
        raise PayloadTooLarge(f"{type(message).__name__} has {size} bytes; the bus takes {MAX_MESSAGE_BYTES}")
