"""Shows the gateways that this worker lives, and which catalogue it serves."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from limner import logs
from limner.blobs.keys import catalogue_key
from limner.blobs.port import BlobStore
from limner.bus.messages import CatalogueAnswer, CatalogueOffer, Heartbeat
from limner.bus.port import Bus
from limner.enginehost.protocol import EngineInfo
from limner.errors import Unavailable
from limner.worker.gateway import Gateways

log = logs.get("worker")

EVERY_SECONDS = 5.0
PAUSE_SECONDS = 2.0
AGAIN_SECONDS = 60.0  # how often a gateway is asked whether it still has the catalogue
LARGE_BYTES = 1024 * 1024  # a catalogue of more goes through the blob store
LARGEST_BYTES = 64 * 1024 * 1024


class Pulse:
    """Puts a heartbeat every 5 s, and at once when something changed."""

    def __init__(self, bus: Bus, describe: Callable[[], Heartbeat], *, every_seconds: float = EVERY_SECONDS) -> None:
        self._bus = bus
        self._describe = describe
        self._every = every_seconds
        self._changed = asyncio.Event()

    def changed(self) -> None:
        self._changed.set()

    async def run(self) -> None:
        """Beats until it is canceled. A bus that is away is no fault: the next beat comes."""
        while True:
            try:
                await self._bus.put_worker(self._describe())
            except Unavailable as error:
                log.debug("the heartbeat could not be put", error=error.message)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._every):
                    await self._changed.wait()
            self._changed.clear()


class Offers:
    """Hands the engine's catalogue to the gateways whenever it is another one: its digest first, itself if wanted.

    One that was not taken, or that the gateways have lost with their database, is offered again after a minute.

    One that is too large for a message goes through the blob store.
    """

    def __init__(self, gateways: Gateways, blobs: BlobStore, *, worker: str, pool: str) -> None:
        self._gateways = gateways
        self._blobs = blobs
        self._worker = worker
        self._pool = pool
        self._latest: EngineInfo | None = None  # only this one: while no gateway answers many may come
        self._new = asyncio.Event()
        self._refused: str | None = None  # why the last offer was: it is told once

    def changed(self, info: EngineInfo) -> None:
        """One without a digest says nothing yet."""
        if not info.digest:
            return
        if self._latest is None or info.digest != self._latest.digest:
            self._new.set()
        self._latest = info

    async def run(self) -> None:
        """Offers until it is canceled; now and then the same again, as gateways may forget."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(AGAIN_SECONDS):
                    await self._new.wait()
            self._new.clear()
            if self._latest is not None:
                await self._offer(self._latest)

    async def _offer(self, info: EngineInfo) -> None:
        offer = CatalogueOffer(worker=self._worker, pool=self._pool, digest=info.digest)
        answer = await self._gateways.offer(offer, go_on=lambda: True)
        if answer.wanted:
            answer = await self._hand_in(offer, info.catalogue)
        if not answer.ok and answer.reason != self._refused:
            log.error("the gateway did not take this worker's catalogue", reason=answer.reason)
        self._refused = None if answer.ok else answer.reason

    async def _hand_in(self, offer: CatalogueOffer, catalogue: dict[str, Any]) -> CatalogueAnswer:
        text = await asyncio.to_thread(_encoded, catalogue)
        if len(text) > LARGEST_BYTES:
            return CatalogueAnswer(ok=False, reason=f"it has {len(text)} bytes; the largest may have {LARGEST_BYTES}")
        if len(text) <= LARGE_BYTES:
            whole = replace(offer, catalogue=catalogue)
        else:
            whole = replace(offer, key=catalogue_key(offer.digest))
            await self._store(whole.key, text)
        return await self._gateways.offer(whole, go_on=lambda: True)

    async def _store(self, key: str, text: bytes) -> None:
        """Until the store takes it: without its catalogue the gateways know nothing of this worker's nodes."""
        while True:
            try:
                await self._blobs.put(key, text)
            except Unavailable as error:
                log.warning("the catalogue could not be stored; trying again", error=error.message)
                await asyncio.sleep(PAUSE_SECONDS)
            else:
                return


def _encoded(catalogue: dict[str, Any]) -> bytes:
    return json.dumps(catalogue, separators=(",", ":")).encode()
