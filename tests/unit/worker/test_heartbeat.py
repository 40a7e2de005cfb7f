"""How a worker's catalogue reaches the gateways."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from limner.blobs.keys import catalogue_key
from limner.blobs.memory import MemoryStore
from limner.bus import subjects
from limner.bus.memory import MemoryBus
from limner.bus.messages import CatalogueAnswer, CatalogueOffer, Message
from limner.enginehost.protocol import EngineInfo
from limner.errors import Unavailable
from limner.worker import gateway, heartbeat
from limner.worker.gateway import Gateways
from limner.worker.heartbeat import Offers

LARGE = {"nodes": {"K": {"help": "x" * 100}}}
DIGEST = "d" * 64


class Flaky(MemoryStore):
    """Is away for the first `faults` uploads."""

    faults = 0

    async def put(self, key: str, data: bytes | Path, *, create: bool = False, durable: bool = True) -> None:
        if self.faults:
            self.faults -= 1
            raise Unavailable("the store is away")
        await super().put(key, data, create=create)


async def end(task: asyncio.Task[None]) -> None:
    """Python 3.11's `wait_for` swallows a cancel that meets its result."""
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=0.1)


async def offered(blobs: MemoryStore, catalogue: dict[str, Any], enough: Callable[[list[CatalogueOffer]], bool]) -> Any:
    """What the gateway was told of this catalogue until it was `enough`."""
    bus = MemoryBus()
    told: list[CatalogueOffer] = []

    async def answer(body: bytes) -> Message:
        told.append(CatalogueOffer.decode(body))
        return CatalogueAnswer(ok=True, wanted=len(told) == 1)

    await bus.serve(subjects.CATALOGUE, subjects.GATEWAYS, answer)
    offers = Offers(Gateways(bus, "w"), blobs, worker="w", pool="default")
    task = asyncio.create_task(offers.run())
    offers.changed(EngineInfo(catalogue=catalogue, digest=DIGEST, ready=True))
    async with asyncio.timeout(10):
        while not enough(told):
            await asyncio.sleep(0.001)
    await end(task)
    return told


async def test_a_small_catalogue_goes_in_a_message() -> None:
    blobs = MemoryStore()
    first, second = await offered(blobs, LARGE, lambda told: len(told) == 2)
    assert (first.catalogue, first.key) == (None, "")
    assert (second.catalogue, second.key) == (LARGE, "")
    assert await blobs.size(catalogue_key(DIGEST)) is None


async def test_a_large_catalogue_goes_through_the_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "LARGE_BYTES", 50)
    monkeypatch.setattr(heartbeat, "PAUSE_SECONDS", 0.001)
    blobs = Flaky()
    blobs.faults = 2
    _, second = await offered(blobs, LARGE, lambda told: len(told) == 2)
    assert (second.catalogue, second.key, second.digest) == (None, catalogue_key(DIGEST), DIGEST)
    assert json.loads(await blobs.get(second.key)) == LARGE


async def test_a_catalogue_beyond_all_measure_is_kept_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "LARGEST_BYTES", 50)
    blobs = MemoryStore()
    [_] = await offered(blobs, LARGE, lambda told: len(told) == 1)
    assert await blobs.size(catalogue_key(DIGEST)) is None


class Gateway:
    """Takes offers while it is there; `wants` and `refuses` say how it answers."""

    def __init__(self) -> None:
        self.bus = MemoryBus()
        self.told: list[CatalogueOffer] = []
        self.wants = False
        self.refuses = False
        self.offers = Offers(Gateways(self.bus, "w"), MemoryStore(), worker="w", pool="default")

    async def __aenter__(self) -> Gateway:
        self._task = asyncio.create_task(self.offers.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        await end(self._task)

    async def open(self) -> None:
        await self.bus.serve(subjects.CATALOGUE, subjects.GATEWAYS, self._answer)

    async def told_of(self, count: int) -> list[str]:
        async with asyncio.timeout(10):
            while len(self.told) < count:
                await asyncio.sleep(0.001)
        return [offer.digest for offer in self.told]

    async def _answer(self, body: bytes) -> Message:
        self.told.append(CatalogueOffer.decode(body))
        return CatalogueAnswer(ok=not self.refuses, wanted=self.wants and self.told[-1].catalogue is None)


def info_of(number: int) -> EngineInfo:
    return EngineInfo(catalogue={"nodes": {}}, digest=f"{number}" * 64, ready=True)


async def test_of_the_catalogues_that_came_while_no_gateway_answered_only_the_last_is_offered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gateway, "FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(gateway, "LONGEST_PAUSE_SECONDS", 0.001)
    async with Gateway() as there:
        for number in range(1, 6):
            there.offers.changed(info_of(number))
            await asyncio.sleep(0)
        there.offers.changed(EngineInfo())
        await there.open()
        told = await there.told_of(2)
    assert told[0] in ("1" * 64, "5" * 64)
    assert set(told[1:]) == {"5" * 64}


async def test_a_gateway_that_has_lost_a_catalogue_gets_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "AGAIN_SECONDS", 0.01)
    async with Gateway() as there:
        await there.open()
        there.offers.changed(info_of(1))
        await there.told_of(2)
        there.wants = True
        async with asyncio.timeout(10):
            while there.told[-1].catalogue is None:
                await asyncio.sleep(0.001)


async def test_a_refusal_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "AGAIN_SECONDS", 0.001)
    with capture_logs() as logs:
        async with Gateway() as there:
            there.refuses = True
            await there.open()
            there.offers.changed(info_of(1))
            await there.told_of(4)
    assert [line["event"] for line in logs] == ["the gateway did not take this worker's catalogue"]
