"""How a worker stops: no new job, the one in hand goes back, and a last word to the gateways."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

FAREWELL_SECONDS = 8.0  # how long a worker that is stopping waits for a gateway to take its last report


class Leaving:
    """`begun`: the worker stops. `over`: nobody waits for an answer any longer."""

    def __init__(self) -> None:
        self._begun = asyncio.Event()
        self._idle: asyncio.Task[Any] | None = None
        self.over = False

    @property
    def begun(self) -> bool:
        return self._begun.is_set()

    def begin(self) -> None:
        self._begun.set()
        asyncio.get_running_loop().call_later(FAREWELL_SECONDS, self._end)
        if self._idle is not None:
            self._idle.cancel()

    async def until(self, wait: Coroutine[Any, Any, Any]) -> Any:
        """Waits for something, unless `begin` cuts the waiting short: None then. What it raises is raised here."""
        if self.begun:
            wait.close()
            return None
        self._idle = asyncio.create_task(wait)
        try:
            await asyncio.wait({self._idle})
        finally:
            self._idle.cancel()
        if self._idle.cancelled():
            return None
        return self._idle.result()

    def _end(self) -> None:
        self.over = True
