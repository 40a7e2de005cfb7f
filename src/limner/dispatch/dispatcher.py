"""All of dispatch in one gateway: the releaser, the sweep and the answers to workers."""

from __future__ import annotations

from limner.bus.port import Bus
from limner.db.session import Database
from limner.services.attempts import Attempts
from limner.services.catalogues import Catalogues
from limner.services.release import Release


class Dispatcher:
    def __init__(self, db: Database, bus: Bus, release: Release, attempts: Attempts, catalogues: Catalogues) -> None: ...

    async def start(self) -> None:
        """Begins to answer workers and to sweep. NATS need not be up: it goes on once it is."""
        ...

    async def stop(self) -> None: ...
