"""A worker whose jobs fail one after the other for no fault of theirs stands aside for a while."""

from __future__ import annotations

import time
from collections.abc import Callable

from limner.bus.messages import Done

SICK = frozenset({"worker_lost", "out_of_memory", "disk_full", "dependency_unavailable"})
"""Codes of failures that may lie in the worker, its engine or its machine rather than in the job."""

JOBS = 3
FIRST_SECONDS = {"out_of_memory": 5.0}
"""Memory also runs out for jobs that simply ask for too much: those behind them shall not wait long."""

FIRST_SECONDS_ELSE = 60.0
LONGEST_SECONDS = 600.0


class Quarantine:
    """Counts different jobs: one that fails again and again says nothing about the worker.

    After a quarantine a single job is on trial: if it fails as well, the next quarantine lasts twice as long. A
    success ends all suspicion; other ends (a node's own fault, an interrupt, a job that no worker could do) say nothing
    either way.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failed: set[str] = set()
        self._length = 0.0  # of the last quarantine; 0 when nothing is held against the worker
        self._until = 0.0

    @property
    def seconds_left(self) -> float:
        """How long no job may be taken, 0.0 outside of a quarantine."""
        return max(self._until - self._clock(), 0.0) if self._length else 0.0

    def heard(self, done: Done) -> float:
        """Takes note of how an attempt ended; the length of the quarantine that begins with it, 0.0 for none."""
        if done.outcome == "succeeded":
            self._failed.clear()
            self._length = 0.0
            return 0.0
        error = done.error or {}
        if done.outcome != "failed" or error.get("code") not in SICK or not error.get("retryable", True):
            return 0.0
        self._failed.add(done.id)
        if not self._length and len(self._failed) < JOBS:
            return 0.0
        self._length = min(self._length * 2, LONGEST_SECONDS) or FIRST_SECONDS.get(error["code"], FIRST_SECONDS_ELSE)
        self._until = self._clock() + self._length
        return self._length
