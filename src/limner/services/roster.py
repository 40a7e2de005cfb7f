"""The workers of one pool, and what each can run: for deciding whether a job may still find one."""

from __future__ import annotations

from collections.abc import Iterable

from limner.bus.messages import Heartbeat
from limner.services.announced import MISSED_SECONDS

DRAINING = "draining"


class Roster:
    """A worker that is missing for less than a minute counts: it may be starting again, or NATS may, which then has
    yet to hear of all of them. Times are seconds of the monotonic clock.
    """

    def __init__(self) -> None:
        self._seen: dict[str, tuple[str, float]] = {}  # digest by worker, and when it was heard last

    def hear(self, beats: Iterable[Heartbeat], now: float) -> None:
        """beats: of all of the pool's workers."""
        for beat in beats:
            if beat.state == DRAINING:
                self._seen.pop(beat.worker, None)
            else:
                self._seen[beat.worker] = (beat.catalogue, now)
        self._seen = {worker: seen for worker, seen in self._seen.items() if now - seen[1] < MISSED_SECONDS}

    def catalogues(self, beats: Iterable[Heartbeat], now: float) -> dict[str, str]:
        """The digest of what each worker can run, "" where it is not known yet; without those that take no more jobs.

        beats: what they say at this moment.
        """
        found = {worker: digest for worker, (digest, at) in self._seen.items() if now - at < MISSED_SECONDS}
        for beat in beats:
            if beat.state == DRAINING:
                found.pop(beat.worker, None)
            else:
                found[beat.worker] = beat.catalogue
        return found
