"""Brings what callers want of a run to the attempt that it is for, and to no other."""

from __future__ import annotations

from collections import deque

from limner.bus.messages import Control
from limner.worker.attempt import Attempt

MOST_EARLY_CONTROLS = 32


class Steering:
    """What is for a job not here yet is kept: it may be faster than the answer to that job's claim."""

    def __init__(self) -> None:
        self.attempt: Attempt | None = None
        self._early: deque[Control] = deque(maxlen=MOST_EARLY_CONTROLS)

    def expect(self) -> None:
        """A claim is about to be asked; what came before that is for nobody."""
        self._early.clear()

    async def begin(self, attempt: Attempt) -> None:
        self.attempt = attempt
        for _ in range(len(self._early)):
            await self.steer(self._early.popleft())

    def end(self) -> None:
        self.attempt = None

    async def steer(self, control: Control) -> None:
        """An interrupt, or a watch."""
        attempt = self.attempt
        if attempt is None or (attempt.job_id, attempt.claimed.token) != (control.id, control.token):
            self._early.append(control)
        elif control.kind == "interrupt":
            await attempt.stop("interrupted")
        else:
            await attempt.watch()
