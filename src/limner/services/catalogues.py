"""Which nodes and models there are: what the workers last offered, kept in SQL, read from memory."""

from __future__ import annotations

from limner.bus.messages import CatalogueAnswer, CatalogueOffer, Heartbeat
from limner.bus.port import Bus
from limner.db.session import Database
from limner.graph.catalogue import Catalogue


class Catalogues:
    def __init__(self, db: Database, bus: Bus) -> None: ...

    async def offer(self, offer: CatalogueOffer) -> CatalogueAnswer:
        """Answer `wanted`: the gateway does not have this digest yet, send the catalogue itself."""
        ...

    async def current(self, pool: str = "default") -> Catalogue: ...

    async def workers(self) -> list[Heartbeat]: ...
