"""How waiting jobs get their tokens: chosen inside a transaction, published in that order after its commit."""

from __future__ import annotations

from limner.bus.port import Bus
from limner.db.session import Database


class Release:
    def __init__(self, db: Database, bus: Bus, *, pool: str = "default") -> None: ...

    async def stop(self) -> None: ...
