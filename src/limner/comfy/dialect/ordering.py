"""Puts a job's live messages into the order of their numbers. No I/O; the caller brings the time."""

from __future__ import annotations

from dataclasses import dataclass

from limner.bus.messages import Live

PATIENCE_SECONDS = 0.25
"""How long a missing message holds up those after it: messages may be lost, and the end must not be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """A message, with the picture that came with it."""

    live: Live
    picture: bytes = b""


class InOrder:
    """The messages of one job, passed on in order, each once.

    The end is passed on after the message with the number it names. A listener that comes late begins with the first
    message it hears. A new attempt begins anew, and makes whatever the one before still owes pointless.
    """

    def __init__(self) -> None:
        self.deadline: float | None = None  # when to call `expired`; None: nothing is held back
        self._attempt = 0
        self._next: int | None = None
        self._held: dict[int, Arrival] = {}
        self._end: Arrival | None = None

    def push(self, arrival: Arrival, now: float) -> list[Arrival]:
        """What can be passed on now that this has come."""
        live = arrival.live
        if live.kind == "Ended":
            self._end = arrival
        elif live.attempt < self._attempt:
            return []
        else:
            if live.attempt > self._attempt:
                self._attempt, self._next, self._held = live.attempt, None, {}
            if self._next is not None and live.seq < self._next:
                return [arrival]  # overtaken by the deadline: late is better than never
            self._held[live.seq] = arrival
            if self._next is None:
                self._next = live.seq
        return self._ready(now)

    def expired(self) -> list[Arrival]:
        """The deadline has passed: everything held back, gaps or not."""
        rest = [self._held[seq] for seq in sorted(self._held)]
        if self._held:
            self._next = max(self._held) + 1
        self._held, self.deadline = {}, None
        if self._end is not None:
            rest.append(self._end)
        return rest

    def _ready(self, now: float) -> list[Arrival]:
        ready: list[Arrival] = []
        while self._next in self._held:
            ready.append(self._held.pop(self._next))
            self._next += 1
        if self._end is not None and self._complete(self._end.live):
            ready.append(self._end)
            self._end = None
        if self._end is None and not self._held:
            self.deadline = None
        elif self.deadline is None or ready:
            self.deadline = now + PATIENCE_SECONDS
        return ready

    def _complete(self, end: Live) -> bool:
        last = int(end.data.get("last_seq", 0))
        return last == 0 or end.attempt < self._attempt or (self._next is not None and self._next > last)
