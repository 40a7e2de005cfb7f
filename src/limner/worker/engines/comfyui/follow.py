"""One prompt from its submission to its end, whatever happens to the instance and to the socket meanwhile."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Any

from limner import logs
from limner.worker.engines.comfyui.client import Refused, Unreachable
from limner.worker.engines.comfyui.frames import Gap
from limner.worker.engines.comfyui.history import Ending, ending_of
from limner.worker.engines.comfyui.line import Line
from limner.worker.engines.comfyui.looking import Looking, Place
from limner.worker.engines.comfyui.patience import Patience
from limner.worker.engines.comfyui.reading import Reading
from limner.worker.engines.comfyui.stopping import Stopping
from limner.worker.engines.comfyui.telling import Telling
from limner.worker.engines.port import EngineLost

log = logs.get("comfyui")

LONGEST_WAIT_SECONDS = 0.5
LATE_PAUSES_SECONDS = (0.01, 0.03, 0.1, 0.2, 0.5)
UNHEARD = 4
"""Without a socket no event can be heard: a run counts as hung only after so many times the usual."""


class Hung(EngineLost):
    """Nothing moves any more. `foreign`: it is another user's prompt that does not move, and ours waits for it."""

    def __init__(self, message: str, *, foreign: bool) -> None:
        super().__init__(message)
        self.foreign = foreign


class Follow:
    """`follow` hands `telling` all that is heard, and returns how the prompt ended as its history has it.

    `taken_up`: the prompt was there before; it may be over.
    """

    def __init__(
        self,
        *,
        line: Line,
        looking: Looking,
        reading: Reading,
        telling: Telling,
        stopping: Stopping,
        patience: Patience,
        hang_seconds: float,
        taken_up: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._line = line
        self._looking = looking
        self._reading = reading
        self._telling = telling
        self._stopping = stopping
        self._patience = patience
        self._hang = hang_seconds
        self._clock = clock
        self.missed = line.shaky or taken_up  # whether something may not have been heard
        now = clock()
        self._looked = now - patience.quiet if taken_up else now
        self._moved = now
        self._moves = reading.moves
        self._pause = 0.0  # until the next look, which comes the later the more often it was looked in vain
        self._rejoin_at: float | None = None
        self._rejoin_pause = patience.rejoin
        self._seen: Any = None  # the queue, as it was last seen

    async def follow(self) -> Ending | None:
        """How it ended; None where it was stopped and there is no more to say. Raises EngineLost and Hung."""
        while not self._stopping.done:
            self._telling.check()
            await self._hear()
            if self._reading.over and (ending := await self._after_goodbye()) is not None:
                return ending
            if self._clock() - self._looked >= self._until_look() and (ending := await self._look()) is not None:
                return ending
            self._judge_silence()
        return None

    async def _hear(self) -> None:
        """One message, or a wait for one."""
        due = self._looked + self._until_look() - self._clock()
        message = await self._line.next(max(0.0, min(due, LONGEST_WAIT_SECONDS)))
        if message is None:
            return
        if isinstance(message, Gap):
            self.missed = self.missed or self._reading.end is None
        for event in self._reading.read(message):
            self._telling.tell(event)
        if self._reading.moves != self._moves:
            self._moves = self._reading.moves
            self._has_moved()
            self._looked = self._moved

    def _has_moved(self) -> None:
        self._looking.heard()
        self._moved = self._clock()
        self._pause = 0.0
        self._rejoin_at = None
        self._rejoin_pause = self._patience.rejoin

    def _until_look(self) -> float:
        """How long after the last look or the last event the next look is due."""
        if self._stopping.asked.is_set():
            return self._patience.stop_again
        if self._line.up and not self._line.shaky:
            return max(self._patience.quiet, self._pause)
        return max(self._patience.look, self._pause)

    async def _look(self) -> Ending | None:
        """The end, if it is there. What fails to answer is asked again; what is lost is raised."""
        place = await self._looking.look()
        self._looked = self._clock()
        longest = self._patience.quiet_longest if self._line.up else self._patience.look_longest
        self._pause = min(max(self._pause, self._until_look()) * 2, longest)
        if place is Place.ENDED:
            return await self._as_history_has_it()
        if place is Place.WAITING:
            self._see_queue()
        if place is Place.ABSENT:
            self._pause = self._patience.look
            if (ending := self._as_heard()) is not None and self._is_late():
                return ending
        if place is Place.RUNNING:
            await self._rejoin_where_deaf()
        return None

    def _see_queue(self) -> None:
        """A queue that changes moves."""
        queue = [item.prompt_id for item in self._looking.queue]
        if queue != self._seen:
            self._seen, self._moved = queue, self._clock()

    async def _rejoin_where_deaf(self) -> None:
        """A socket that came back during the run may be one that the instance does not know any more."""
        if not (self._line.up and self._line.shaky):
            self._rejoin_at = None
            return
        now = self._clock()
        if self._rejoin_at is None:
            self._rejoin_at = now + self._rejoin_pause
        elif now >= self._rejoin_at:
            self._rejoin_pause = min(self._rejoin_pause * 2, self._patience.rejoin_longest)
            self._rejoin_at = now + self._rejoin_pause
            await self._line.rejoin()

    async def _after_goodbye(self) -> Ending | None:
        """The prompt is over: its history entry, or what was heard where that never comes.

        None where neither is there: perhaps that was another's goodbye.
        """
        began = self._clock()
        for pause in _without_end(LATE_PAUSES_SECONDS):
            try:
                if await self._looking.ended():
                    return await self._as_history_has_it()
            except (Unreachable, Refused) as error:
                log.debug("the history of a prompt cannot be had", error=error.message)
            if self._stopping.done or self._clock() - began >= self._patience.late:
                break
            await asyncio.sleep(pause)
        self._reading.over = False
        return self._as_heard()

    async def _as_history_has_it(self) -> Ending:
        entry = self._looking.entry or {}
        ending = ending_of(entry)
        status = entry.get("status")
        messages = status.get("messages") if isinstance(status, dict) else None
        for event in self._reading.catch_up(messages if isinstance(messages, list) else []):
            self._telling.tell(event)
        if ending.outcome == "succeeded":
            for event in self._reading.finish():
                self._telling.tell(event)
        return ending

    def _as_heard(self) -> Ending | None:
        """What the events told; None where the end, or something before a good end, was not heard."""
        if self._reading.end is None:
            return None
        if self._reading.end[0] == "execution_success" and self.missed:
            return None
        return self._reading.ending()

    def _is_late(self) -> bool:
        return self._clock() - self._moved >= self._patience.absent

    def _judge_silence(self) -> None:
        """Raises Hung where nothing has moved for too long."""
        patience = self._hang if self._line.up else self._hang * UNHEARD
        silent = self._clock() - self._moved
        if silent < patience:
            return
        waits_for_others = not self._reading.started and not self._looking.queue.runs(self._reading.prompt_id)
        foreign = waits_for_others and bool(self._looking.queue.running)
        what = "another prompt that it runs" if foreign else "the prompt"
        raise Hung(f"the ComfyUI has told nothing of {what} for {silent:.0f} s", foreign=foreign)


def _without_end(pauses: tuple[float, ...]) -> Iterable[float]:
    yield from pauses
    while True:
        yield pauses[-1]
