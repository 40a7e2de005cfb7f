"""Looking for a prompt in an instance's queue and history, and judging what is (not) found there."""

from __future__ import annotations

import time
from collections.abc import Callable
from enum import Enum, auto
from typing import Any

from limner.worker.engines.comfyui.client import ComfyClient, Refused, Unreachable
from limner.worker.engines.comfyui.patience import Patience
from limner.worker.engines.comfyui.queue import Item, Queue
from limner.worker.engines.port import EngineLost


class Place(Enum):
    """Where a prompt is. UNKNOWN: the instance does not tell now."""

    WAITING = auto()
    RUNNING = auto()
    ENDED = auto()
    ABSENT = auto()
    UNKNOWN = auto()


class Looking:
    """Looks for one prompt. `entry` is its history entry, once it has ended."""

    def __init__(
        self,
        client: ComfyClient,
        prompt_id: str,
        token: str,
        patience: Patience,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.entry: dict[str, Any] | None = None
        self.queue = Queue()  # as it was last seen
        self._client = client
        self._prompt_id = prompt_id
        self._token = token
        self._patience = patience
        self._clock = clock
        self._absent: list[float] = []
        self._trouble: tuple[str, float] | None = None  # its kind, and since when

    async def look(self) -> Place:
        """Where the prompt is now. Raises EngineLost where nothing more is to be hoped for."""
        try:
            place = await self._look()
        except (Unreachable, Refused) as error:
            self._judge_trouble(trouble_of(error), error.message)
            return Place.UNKNOWN
        self._trouble = None
        self._judge_absence(place)
        return place

    async def ended(self) -> bool:
        """Whether its history entry is there; one of an earlier attempt under the same id is not its own."""
        entry = await self._client.history(self._prompt_id)
        if entry is None or not is_of(entry, self._token):
            return False
        self.entry = entry
        return True

    async def _look(self) -> Place:
        """First the history: it is cheap. A prompt may end between the two looks, so then the history again."""
        if await self.ended():
            return Place.ENDED
        self.queue = await self._client.queue()
        if self.queue.runs(self._prompt_id):
            return Place.RUNNING
        if self.queue.holds(self._prompt_id):
            return Place.WAITING
        return Place.ENDED if await self.ended() else Place.ABSENT

    def heard(self) -> None:
        """An event came: the instance is there."""
        self._trouble = None

    def _judge_absence(self, place: Place) -> None:
        if place is not Place.ABSENT:
            self._absent.clear()
            return
        now = self._clock()
        self._absent.append(now)
        if len(self._absent) >= self._patience.absent_looks and now - self._absent[0] >= self._patience.absent:
            raise EngineLost(
                "the ComfyUI does not know the prompt any more: it was started again, or somebody deleted the prompt"
            )

    def _judge_trouble(self, kind: str, message: str) -> None:
        """What is wrong for too long is lost. A slow answer is so late only: a ComfyUI may load a model meanwhile."""
        now = self._clock()
        if self._trouble is None or self._trouble[0] != kind:
            self._trouble = kind, now
        if now - self._trouble[1] >= limit(self._patience, kind):
            raise EngineLost(f"the ComfyUI is gone: {message}")


def trouble_of(error: Unreachable | Refused) -> str:
    """What kind of trouble it is not to be answered so."""
    if isinstance(error, Unreachable) and error.refused:
        return "refused"
    return "frozen" if isinstance(error, Unreachable) and error.slow else "unreachable"


def limit(patience: Patience, trouble: str) -> float:
    """How many seconds a trouble may last."""
    return {"refused": patience.refused, "frozen": patience.frozen}.get(trouble, patience.unreachable)


def is_of(entry: dict[str, Any], token: str) -> bool:
    """Whether a history entry is that of the attempt with this token; one that tells no token is taken to be."""
    item = Item.of_entry(entry)
    return item is None or not item.token or not token or item.token == token
