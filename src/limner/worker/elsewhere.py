"""Tokens that are for another worker than this one, which meets them again and again."""

from __future__ import annotations

import time
from collections.abc import Callable

SHORTEST_SECONDS = 1.0
EACH_SECONDS = 0.05  # at most twenty a second are met in vain
REMEMBERED_SECONDS = 60.0


class Elsewhere:
    """How long such a token stays away: longer the more of them there are, so that this worker's own jobs come."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._met: dict[str, float] = {}  # job ids, and when they were met last

    def seconds(self, job_id: str) -> float:
        now = self._clock()
        self._met[job_id] = now
        self._met = {id: at for id, at in self._met.items() if now - at < REMEMBERED_SECONDS}
        return max(SHORTEST_SECONDS, EACH_SECONDS * len(self._met))
