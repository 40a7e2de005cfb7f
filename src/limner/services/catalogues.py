"""Which nodes and models there are: what the workers last offered, kept in SQL, read from memory."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass

from limner import logs
from limner.bus.messages import CatalogueAnswer, CatalogueOffer, Heartbeat
from limner.bus.port import Bus
from limner.db import catalogues as rows
from limner.db.session import Database
from limner.graph.catalogue import Catalogue

log = logs.get("limner.services.catalogues")

FRESH_SECONDS = 1.0


@dataclass(slots=True)
class _Known:
    digest: str | None
    catalogue: Catalogue
    looked_at: float


class Catalogues:
    def __init__(self, db: Database, bus: Bus) -> None:
        self._db = db
        self._bus = bus
        self._known: dict[str, _Known] = {}
        self._looking = asyncio.Lock()

    async def offer(self, offer: CatalogueOffer) -> CatalogueAnswer:
        """Takes a worker's catalogue. `wanted`: this digest is new here, send the catalogue itself."""
        if offer.catalogue is None:
            known = await self._db.read(lambda connection: rows.digest(connection, offer.pool))
            return CatalogueAnswer(ok=True, wanted=known != offer.digest)
        try:
            catalogue = await asyncio.to_thread(_checked, offer)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            return CatalogueAnswer(ok=False, reason=f"the catalogue cannot be read: {type(error).__name__}: {error}")
        text = json.dumps(offer.catalogue, separators=(",", ":"))
        await self._db.write(lambda connection: rows.store(connection, offer.pool, offer.digest, text))
        self._known[offer.pool] = _Known(offer.digest, catalogue, time.monotonic())
        log.info("a worker offered a new catalogue", worker=offer.worker, pool=offer.pool, nodes=len(catalogue.nodes))
        return CatalogueAnswer(ok=True)

    async def current(self, pool: str = "default") -> Catalogue:
        """The last one that a worker of the pool offered; before any ever did, Limner's own nodes."""
        known = self._known.get(pool)
        if known is not None and time.monotonic() - known.looked_at < FRESH_SECONDS:
            return known.catalogue
        async with self._looking:
            return await self._look(pool)

    async def workers(self) -> list[Heartbeat]:
        """The workers that are there now."""
        return await self._bus.workers()

    async def _look(self, pool: str) -> Catalogue:
        known = self._known.get(pool)
        digest = await self._db.read(lambda connection: rows.digest(connection, pool))
        if known is None or known.digest != digest:
            text = await self._db.read(lambda connection: rows.load(connection, pool))
            catalogue = await asyncio.to_thread(_loaded, text)
            known = self._known[pool] = _Known(digest, catalogue, 0.0)
        known.looked_at = time.monotonic()
        return known.catalogue


def _checked(offer: CatalogueOffer) -> Catalogue:
    catalogue = Catalogue.from_json(offer.catalogue or {})
    if catalogue.digest != offer.digest:
        raise ValueError(f"its digest is {catalogue.digest}, not {offer.digest}")
    return catalogue


def _loaded(text: str | None) -> Catalogue:
    if text is None:
        return Catalogue.core()
    try:
        return Catalogue.from_json(json.loads(text))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        log.warning("the stored catalogue is of another version; Limner's own nodes stand in", error=str(error))
        return Catalogue.core()
