"""Who is looking: the clients with an open socket on this gateway."""

from __future__ import annotations

from collections import Counter


class Presence:
    """Counts open sockets per (tenant, client), so that previews are made only when somebody watches."""

    def __init__(self) -> None:
        self._open: Counter[tuple[str, str]] = Counter()

    def came(self, tenant: str, client_id: str) -> None:
        self._open[tenant, client_id] += 1

    def left(self, tenant: str, client_id: str) -> None:
        self._open[tenant, client_id] -= 1
        if self._open[tenant, client_id] <= 0:
            del self._open[tenant, client_id]

    def watching(self, tenant: str, client_id: str | None) -> bool:
        return client_id is not None and (tenant, client_id) in self._open
