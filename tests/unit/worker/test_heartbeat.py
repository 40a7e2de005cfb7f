"""How a worker's catalogue reaches the gateways."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from limner.blobs.keys import catalogue_key
from limner.blobs.memory import MemoryStore
from limner.bus import subjects
from limner.bus.memory import MemoryBus
from limner.bus.messages import CatalogueAnswer, CatalogueOffer, Message
from limner.enginehost.protocol import EngineInfo
from limner.errors import Unavailable
from limner.worker import heartbeat
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
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
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
