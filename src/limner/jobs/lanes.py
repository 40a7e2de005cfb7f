"""Lanes: jobs that need the same base weights go one way, so that a worker which holds these takes them first."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable

from limner.jobs.model import LANE_ANY

MOST_LANES = 1000
UNUSED_SECONDS = 3600.0
"""As long as the bus keeps a lane that nobody uses."""


def lane_of(models: Iterable[str]) -> str:
    """16 hex digits that are the same for the same base weights in any order; `any` where a job names none."""
    names = sorted(set(models))
    if not names:
        return LANE_ANY
    return hashlib.sha256(json.dumps(names).encode()).hexdigest()[:16]


class Lanes:
    """Chooses the lanes of new jobs, and keeps the number of those in use within bounds."""

    def __init__(self, *, most: int = MOST_LANES) -> None:
        self._most = most
        self._used: dict[str, float] = {}  # when each was chosen last, the longest ago first

    def choose(self, models: Iterable[str], *, workers: int, now: float) -> str:
        """`any` for all jobs while a single worker is there, so that their order is exact. now: monotonic seconds."""
        lane = lane_of(models)
        if workers < 2 or lane == LANE_ANY:
            return LANE_ANY
        self._forget_unused(now)
        if lane not in self._used and len(self._used) >= self._most:
            return LANE_ANY
        self._used.pop(lane, None)
        self._used[lane] = now
        return lane

    def _forget_unused(self, now: float) -> None:
        while self._used:
            lane, used_at = next(iter(self._used.items()))
            if now - used_at < UNUSED_SECONDS:
                return
            del self._used[lane]
