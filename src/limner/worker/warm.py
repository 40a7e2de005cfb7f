"""The lane whose models the engine holds now: its jobs come first, for a while."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from limner.jobs.model import LANE_ANY

PAST_OTHERS_SECONDS = 30.0  # how long jobs of the warm lane may go before those that wait in others
GRACE_SECONDS = 0.03  # how long a worker that is warm for a job gets before the others reach for it
JITTER_SECONDS = 0.02


class WarmLane:
    """What to ask the bus for, and how long to hold back from a job that another worker may be warm for."""

    def __init__(
        self, *, clock: Callable[[], float] = time.monotonic, chance: Callable[[], float] = random.random
    ) -> None:
        self._clock = clock
        self._chance = chance
        self._lane = LANE_ANY
        self._since = clock()

    @property
    def lanes(self) -> tuple[str, ...]:
        """For Bus.pull: the warm lane, or none, so that the job that waits longest is next.

        A cold worker asks for jobs that need no models first: where there is one worker, all are of that kind.
        """
        return () if self._is_due() else (self._lane,)

    def took(self, lane: str) -> None:
        """A job of this lane came. One that needs no models leaves those of the last one where they are."""
        if self._is_due() or lane not in (self._lane, LANE_ANY):
            self._since = self._clock()
        if lane != LANE_ANY:
            self._lane = lane

    def found_none(self) -> None:
        """No job waits in any lane: none was passed."""
        self._since = self._clock()

    def cool(self) -> None:
        """The engine holds no models any more."""
        self._lane = LANE_ANY

    def grace_seconds(self, woken: str | None) -> float:
        """How long to wait after a wake; `woken`: its lane, None or "" where that is not known."""
        if self._lane == LANE_ANY or not woken or woken in (self._lane, LANE_ANY):
            return 0.0
        return GRACE_SECONDS + JITTER_SECONDS * self._chance()

    def _is_due(self) -> bool:
        return self._clock() - self._since >= PAST_OTHERS_SECONDS
