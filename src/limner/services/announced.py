"""Which catalogues the workers of one pool serve now, by what they say of themselves."""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable

from limner.bus.messages import Heartbeat

MISSED_SECONDS = 60.0
"""A worker that is gone for no longer than this may be starting again: its nodes are still offered."""


class Announced:
    """A worker that says nothing, as its engine is not up yet, counts with what it served before; so does one whose
    new catalogue is still on its way, for its nodes do not go meanwhile.

    before: what the pool's workers served when this gateway had not heard any. It counts while some worker that is
    starting has not said what it serves, for a minute at the most. Times are seconds of the monotonic clock.
    """

    def __init__(self, before: Collection[str], now: float) -> None:
        self._before = frozenset(before)
        self._began = now
        self._served: dict[str, tuple[str, float]] = {}  # digest by worker, and when it was heard last
        self._silent = False

    def hear(self, beats: Iterable[Heartbeat], now: float, *, stored: Container[str]) -> None:
        """beats: of all of the pool's workers. stored: digests of the catalogues that have been handed in."""
        self._silent = False
        for beat in beats:
            before = self._served.get(beat.worker)
            if digest := beat.catalogue if beat.catalogue in stored else before[0] if before else "":
                self._served[beat.worker] = (digest, now)
            else:
                self._silent = True

    def offered(self, worker: str, digest: str, now: float) -> None:
        """The worker's next heartbeat will say so as well."""
        self._served[worker] = (digest, now)

    @property
    def workers(self) -> dict[str, str]:
        """The digest that each worker served when it was heard last."""
        return {worker: digest for worker, (digest, _) in self._served.items()}

    def digests(self, now: float) -> frozenset[str]:
        for worker, (_, heard_at) in list(self._served.items()):
            if now - heard_at > MISSED_SECONDS:
                del self._served[worker]
        served = frozenset(digest for digest, _ in self._served.values())
        waits = self._silent and now - self._began <= MISSED_SECONDS
        return served | self._before if served and waits else served
