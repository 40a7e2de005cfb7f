"""A gateway's durable half for tests: a database in a folder, a bus, and the services over them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from limner.blobs.memory import MemoryStore
from limner.bus.memory import MemoryBus
from limner.bus.messages import Claim, Claimed, Done, Live, Settled
from limner.bus.port import Bus, Delivery
from limner.db.session import Database
from limner.jobs.model import Job
from limner.services.attempts import Attempts, ExistingNumber
from limner.services.files import FileStore
from limner.services.jobs import Jobs
from limner.services.presence import Presence
from limner.services.release import Release

TENANT = "default"
WORKFLOW = {"1": {"class_type": "EmptyImage", "inputs": {"width": 64}}}


@dataclass
class Durable:
    db: Database
    bus: Bus
    release: Release
    presence: Presence
    jobs: Jobs
    attempts: Attempts
    blobs: MemoryStore
    files: FileStore
    heard: list[Live] = field(default_factory=list)

    async def submit(self, prompt_id: str | None = None, *, tenant: str = TENANT, **more: Any) -> Job:
        fields: dict[str, Any] = {"workflow": WORKFLOW, "outputs": ["1"], "extra_data": {}, "client_id": "c"}
        submitted = await self.jobs.submit(tenant=tenant, prompt_id=prompt_id, **(fields | more))
        await self.settle()
        return submitted.job

    async def settle(self) -> None:
        """Waits until every token that was handed in is on the bus."""
        await until(lambda: not self.release._errands)

    async def pull(self) -> Delivery | None:
        await self.settle()
        return await self.bus.pull(self.release.pool, ("any",))

    async def claim(self, delivery: Delivery, worker: str = "w") -> Claimed:
        asked = Claim(id=delivery.token.id, epoch=delivery.token.epoch, worker=worker, delivery=delivery.id)
        claimed = await self.attempts.claim(asked)
        await self.settle()
        return claimed

    async def take(self, worker: str = "w") -> tuple[Delivery, Claimed] | None:
        """The next job as a worker gets it: tokens that are no longer good are dropped. None: nothing waits."""
        while delivery := await self.pull():
            claimed = await self.claim(delivery, worker)
            if claimed.ok:
                return delivery, claimed
            await delivery.ack()
        return None

    async def end(self, delivery: Delivery, claimed: Claimed, outcome: str = "succeeded", **more: Any) -> Settled:
        settled = await self.attempts.done(Done(id=delivery.token.id, token=claimed.token, outcome=outcome, **more))
        await self.settle()
        await delivery.ack()
        return settled

    async def run(self, prompt_id: str, **more: Any) -> None:
        """Submits a job and brings it to its end."""
        await self.submit(prompt_id, **more)
        taken = await self.take()
        assert taken is not None
        assert (await self.end(*taken)).ok

    def kinds(self) -> list[str]:
        return [event.kind for event in self.heard]


@asynccontextmanager
async def durable(
    folder: Path, bus: Bus | None = None, *, existing_number: ExistingNumber | None = None
) -> AsyncIterator[Durable]:
    db = await Database.open(f"sqlite:///{folder}/limner.db")
    bus = bus or MemoryBus()
    release, presence, blobs = Release(db, bus), Presence(), MemoryStore()
    made = Durable(
        db=db,
        bus=bus,
        release=release,
        presence=presence,
        jobs=Jobs(db, bus, release),
        attempts=Attempts(db, bus, release, presence, existing_number=existing_number),
        blobs=blobs,
        files=FileStore(db, blobs),
    )

    async def hear(_subject: str, body: bytes) -> None:
        made.heard.append(Live.decode(body))

    listening = await bus.subscribe("limner.ev.*.*", hear)
    try:
        yield made
    finally:
        await listening.stop()
        await release.stop()
        await db.close()


async def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Returns once the condition holds; TimeoutError when it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("it did not happen in time")
        await asyncio.sleep(0)
