"""Which nodes and models there are: what the pool's workers serve together, kept in SQL, read from memory."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import time
from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from typing import Any

from limner import logs
from limner.blobs.keys import catalogue_key
from limner.blobs.port import BlobStore
from limner.bus import subjects
from limner.bus.messages import CatalogueAnswer, CatalogueOffer, Check, Checked, Heartbeat
from limner.bus.port import Bus
from limner.db import catalogues as rows
from limner.db.session import Connection, Database
from limner.errors import Invalid, NotFound, Unavailable
from limner.graph.catalogue import Catalogue
from limner.services.announced import Announced

log = logs.get("limner.services.catalogues")

FRESH_SECONDS = 1.0
ANSWER_SECONDS = 0.5
"""How long a workflow waits for NATS before it is checked against what is known already."""

CHECK_SECONDS = 2.0
"""How long a workflow waits for what node classes say of its inputs; after that the check moves to the run."""

MOST_BYTES = 64 * 2**20
DIGEST = re.compile(r"[0-9a-f]{64}")
UNREADABLE = (KeyError, TypeError, ValueError, AttributeError, RecursionError)


@dataclass(slots=True)
class _Pool:
    announced: Announced
    digests: frozenset[str] | None = None  # of what `whole` is made
    parts: dict[str, Catalogue] = field(default_factory=dict)
    whole: Catalogue = field(default_factory=Catalogue.core)
    looked_at: float = 0.0
    recorded: frozenset[str] | None = None  # what this gateway has last written down as current


class Catalogues:
    def __init__(self, db: Database, bus: Bus, blobs: BlobStore) -> None:
        self._db = db
        self._bus = bus
        self._blobs = blobs
        self._pools: dict[str, _Pool] = {}
        self._looking = asyncio.Lock()
        self._taking = asyncio.Lock()

    async def offer(self, offer: CatalogueOffer) -> CatalogueAnswer:
        """Takes a worker's catalogue. `wanted`: this digest is new here, send the catalogue itself.

        One that is too large for a message lies in the blob store, under its key of blobs.keys.
        """
        async with self._taking:  # a worker repeats an offer that takes long
            if not await self._has(offer):
                if offer.catalogue is None and not offer.key:
                    return CatalogueAnswer(ok=True, wanted=True)
                try:
                    await self._take(offer)
                except Invalid as error:
                    if not await self._has(offer):  # by now another gateway may have taken it
                        return CatalogueAnswer(ok=False, reason=error.message)
        async with self._looking:
            await self._look(offer.pool, offer)
        return CatalogueAnswer(ok=True)

    async def current(self, pool: str = "default") -> Catalogue:
        """All that the pool's workers serve; while none is there what the last ones did, before any Limner's own."""
        if (known := self._fresh(pool)) is not None:
            return known
        async with self._looking:  # those who waited for another one's look need none of their own
            return self._fresh(pool) or await self._look(pool)

    async def awaited(self, pool: str = "default") -> bool:
        """Whether no worker has said yet what it serves, but one is about to: what is missing now may be there soon."""
        await self.current(pool)
        if self._pools[pool].digests:
            return False
        try:
            return any(beat.pool == pool and not beat.catalogue for beat in await self._bus.workers())
        except Unavailable:
            return False

    async def of_workers(self, pool: str = "default") -> dict[str, Catalogue]:
        """What each of the pool's workers serves, those included that are gone for a moment."""
        await self.current(pool)
        known = self._pools[pool]
        told = known.announced.workers.items()
        return {worker: known.parts[digest] for worker, digest in told if digest in known.parts}

    async def workers(self) -> list[Heartbeat]:
        """The workers that are there now."""
        return await self._bus.workers()

    async def verdicts(self, pool: str, questions: list[dict[str, Any]]) -> list[Any]:
        """What node classes say of inputs by code of their own (`Checked`), as a worker tells; null where none did."""
        unknown: list[Any] = [None] * len(questions)
        try:
            answer = await self._bus.request(subjects.check(pool), Check(questions=questions), Checked, CHECK_SECONDS)
        except Unavailable:
            return unknown
        return answer.verdicts if len(answer.verdicts) == len(questions) else unknown

    async def _has(self, offer: CatalogueOffer) -> bool:
        return offer.digest in await self._db.read(lambda connection: rows.stored(connection, offer.pool))

    async def _take(self, offer: CatalogueOffer) -> None:
        """Stores an offered catalogue. Raises Invalid for one that cannot be used."""
        fetched = await self._fetch(offer) if offer.key else None
        try:
            checked, text = await asyncio.to_thread(_checked, offer, fetched)
        except UNREADABLE as error:
            raise Invalid(f"the catalogue cannot be read: {type(error).__name__}: {error}") from error
        await self._db.write(lambda connection: rows.store(connection, offer.pool, offer.digest, text))
        if offer.key:
            with contextlib.suppress(Unavailable):  # what is left the collector takes
                await self._blobs.delete([offer.key])
        log.info("a worker offered a new catalogue", worker=offer.worker, pool=offer.pool, nodes=len(checked.nodes))

    async def _fetch(self, offer: CatalogueOffer) -> str:
        if not DIGEST.fullmatch(offer.digest) or offer.key != catalogue_key(offer.digest):
            raise Invalid("the catalogue does not lie under its own key")
        try:
            size = await self._blobs.size(offer.key)
            if size is not None and size > MOST_BYTES:
                raise Invalid(f"the catalogue has {size / 2**20:.0f} MiB; {MOST_BYTES // 2**20} MiB is the most")
            return (await self._blobs.get(offer.key)).decode()
        except (NotFound, UnicodeDecodeError) as error:
            raise Invalid(f"the catalogue cannot be fetched: {error}") from error

    def _fresh(self, pool: str) -> Catalogue | None:
        known = self._pools.get(pool)
        return known.whole if known is not None and time.monotonic() - known.looked_at < FRESH_SECONDS else None

    async def _look(self, pool: str, offer: CatalogueOffer | None = None) -> Catalogue:
        """One at a time. offer: what a worker has just said to serve."""
        stored = await self._db.read(lambda connection: rows.stored(connection, pool))
        current = frozenset(digest for digest, is_current in stored.items() if is_current)
        known = self._pools.get(pool)
        if known is None:
            known = self._pools[pool] = _Pool(Announced(current, time.monotonic()))
        await self._hear(pool, known.announced, stored)
        now = time.monotonic()
        if offer is not None:
            known.announced.offered(offer.worker, offer.digest, now)
        wanted = known.announced.digests(now) & stored.keys() or current
        if wanted != current and wanted != known.recorded:  # another gateway may see it otherwise for a while
            await self._make_current(pool, known, wanted)
        if wanted != known.digests:
            await self._load(pool, known, wanted)
        known.looked_at = time.monotonic()
        return known.whole

    async def _hear(self, pool: str, announced: Announced, stored: Container[str]) -> None:
        """What the workers say now; without an answer in time, what they said last counts."""
        with contextlib.suppress(Unavailable, TimeoutError):
            async with asyncio.timeout(ANSWER_SECONDS):
                beats = await self._bus.workers()
            announced.hear([beat for beat in beats if beat.pool == pool], time.monotonic(), stored=stored)

    async def _make_current(self, pool: str, known: _Pool, digests: frozenset[str]) -> None:
        """For the time when no worker is there; until this works it is tried again."""
        try:
            await self._db.write(lambda connection: rows.make_current(connection, pool, digests))
        except Unavailable as error:
            log.warning("which catalogues are current could not be recorded", error=error.message)
        else:
            known.recorded = digests

    async def _load(self, pool: str, known: _Pool, digests: frozenset[str]) -> None:
        def texts(connection: Connection) -> dict[str, str | None]:
            return {digest: rows.load(connection, pool, digest) for digest in digests - known.parts.keys()}

        found = await self._db.read(texts)
        kept = {digest: part for digest, part in known.parts.items() if digest in digests}
        known.parts, known.whole = await asyncio.to_thread(_joined, kept, found)
        known.digests = digests


def _checked(offer: CatalogueOffer, fetched: str | None) -> tuple[Catalogue, str]:
    """The catalogue and its JSON text. Raises one of UNREADABLE."""
    raw = (offer.catalogue or {}) if fetched is None else json.loads(fetched)
    catalogue = Catalogue.from_json(raw)
    if catalogue.digest != offer.digest:
        raise ValueError(f"its digest is {catalogue.digest}, not {offer.digest}")
    return catalogue, fetched or json.dumps(raw, separators=(",", ":"))


def _joined(kept: Mapping[str, Catalogue], found: Mapping[str, str | None]) -> tuple[dict[str, Catalogue], Catalogue]:
    """(each catalogue by digest, all in one); Limner's own nodes where there is none."""
    parts = dict(kept)
    for digest, text in found.items():
        try:
            parts[digest] = Catalogue.from_json(json.loads(text or ""))
        except UNREADABLE as error:
            log.warning("a stored catalogue is of another version and is left out", digest=digest, error=str(error))
    whole = Catalogue.merged(list(parts.values())) if parts else Catalogue.core()
    log.debug("a pool's catalogue", nodes=len(whole.filled))  # filled here: with thousands of nodes that takes long
    return parts, whole
