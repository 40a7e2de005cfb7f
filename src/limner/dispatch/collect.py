"""Deletes blobs that nobody can ask for any more: old temp files, and what lost attempts have left behind."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

from limner import logs
from limner.blobs.keys import CATALOGUES, TENANTS, attempt_prefix, job_prefix, temp_prefix
from limner.blobs.port import BlobStore
from limner.db import history as history_rows
from limner.db.history import Tried
from limner.db.session import Database
from limner.errors import Unavailable

log = logs.get("limner.dispatch.collect")

COLLECT_SECONDS = 60.0
LATE_SECONDS = 60.0
"""A worker that was cut off may go on storing files for a while after its job has ended without it."""

TEMP_AGE = timedelta(hours=24)
TEMP_SECONDS = 3600.0


class Collector:
    """Any number of gateways may run one each: a blob that is gone already is no fault."""

    def __init__(self, db: Database, blobs: BlobStore) -> None:
        self._db = db
        self._blobs = blobs
        self._seen = 0.0
        self._temp_at: float | None = None

    async def run(self) -> None:
        """One round; what is not reachable now is tried again in the next."""
        try:
            await self.run_once()
        except Unavailable as error:
            log.warning("nothing was cleared away this time", error=error.message)

    async def run_once(self) -> None:
        """Raises Unavailable when the store or the database does not answer."""
        await self._lost_attempts()
        if self._temp_at is None or time.monotonic() - self._temp_at >= TEMP_SECONDS:
            await self._old_blobs()
            self._temp_at = time.monotonic()

    async def _lost_attempts(self) -> None:
        """After a start all ended jobs are looked at once more, so that nothing is missed over a stop."""
        since = self._seen
        for job in await self._db.read(lambda c: history_rows.tried(c, after=since, age_seconds=LATE_SECONDS)):
            await self._blobs.delete(await self._lost_keys(job))
            self._seen = job.ended_at

    async def _lost_keys(self, job: Tried) -> list[str]:
        keys = await self._blobs.list(job_prefix(job.tenant, job.id, job.created_at))
        if job.token is None:
            return keys
        kept = attempt_prefix(job.tenant, job.id, job.token, job.created_at)
        return [key for key in keys if not key.startswith(kept)]

    async def _old_blobs(self) -> None:
        """Temp files, and catalogues that a gateway has long since taken."""
        before = datetime.now(UTC) - TEMP_AGE
        await self._blobs.delete(await self._blobs.list(f"{CATALOGUES}/", before=before))
        for tenant in await self._blobs.folders(TENANTS):
            await self._blobs.delete(await self._blobs.list(temp_prefix(tenant), before=before))
