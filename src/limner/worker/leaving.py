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
        self._waits: set[asyncio.Task[Any]] = set()
        self.over = False

    @property
    def begun(self) -> bool:
        return self._begun.is_set()

    def begin(self) -> None:
        self._begun.set()
        asyncio.get_running_loop().call_later(FAREWELL_SECONDS, self._end)
        for wait in self._waits:
            wait.cancel()

    async def until(self, wait: Coroutine[Any, Any, Any]) -> Any:
        """Waits for something, unless `begin` cuts the waiting short: None then. What it raises is raised here."""
        if self.begun:
            wait.close()
            return None
        task = asyncio.create_task(wait)
        self._waits.add(task)
        try:
            await asyncio.wait({task})
        finally:
            self._waits.discard(task)
            if not task.done():  # we are cut off ourselves: nothing goes on behind our back
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        return None if task.cancelled() else task.result()

    def _end(self) -> None:
        self.over = True
