"""An asyncio loop on a thread of its own, which nothing that runs on it can end."""

from __future__ import annotations

import asyncio
import threading
from functools import cached_property

from limner import logs

log = logs.get("limner.packs")

PING_SECONDS = 1.0


class LoopThread:
    """Starts its thread when the loop is first asked for."""

    def __init__(self) -> None:
        self._starting = threading.Lock()

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        with self._starting:
            return self._running

    def answers(self, seconds: float = PING_SECONDS) -> bool:
        """Whether the loop still gets to its tasks: code that blocks holds up all others."""
        pinged = threading.Event()
        self.loop.call_soon_threadsafe(pinged.set)
        return pinged.wait(seconds)

    @cached_property
    def _running(self) -> asyncio.AbstractEventLoop:
        loop = asyncio.new_event_loop()
        threading.Thread(target=_run, args=(loop,), name="packs", daemon=True).start()
        return loop


def _run(loop: asyncio.AbstractEventLoop) -> None:
    """A task that raises SystemExit or KeyboardInterrupt throws it out of the loop, which goes on without that task."""
    asyncio.set_event_loop(loop)
    while True:
        try:
            loop.run_forever()
        except BaseException as raised:
            log.warning("a task of a node pack tried to end the loop", error=f"{type(raised).__name__}: {raised}")
        else:
            return
