"""Async calls of nodes, which go on while other nodes run: an event loop of the run's own, in the run's own thread.

The loop turns only while the run lets it: after each node, and while nothing else can be done.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any

POLL_SECONDS = 0.1
"""How long to wait before looking whether the run was asked to stop."""
CLOSING_SECONDS = 2.0
"""How long canceled calls get to clean up."""

Call = asyncio.Task[Any]


@dataclass(frozen=True, slots=True)
class _Left:
    """How an awaited call tried to end the process: asyncio would let that pass, out of the whole loop."""

    raised: SystemExit


class SideBySide:
    """The loop is made when the first awaitable comes: most runs have none."""

    def __init__(self, check: Callable[[], None]) -> None:
        """`check` raises once the run was asked to stop."""
        self._check = check
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self, awaitable: Awaitable[Any]) -> Call:
        """Begins to await, in a copy of the present context, up to where it first has to wait."""
        loop = self._made()
        task = loop.create_task(_guarded(awaitable), context=contextvars.copy_context())
        task.add_done_callback(_look_at)
        self.turn()
        return task

    def turn(self) -> None:
        """Lets everything go on that can, without waiting.

        Raises SystemExit, as `wait` does, where a task that a node made itself raises it: asyncio stops at that.
        """
        if self._loop is not None:
            turned = self._loop.create_future()
            self._loop.call_soon(turned.set_result, None)
            self._loop.run_until_complete(turned)

    def wait(self, calls: Iterable[Call], seconds: float) -> None:
        """Until one of them is done, and no longer than this."""
        self._made().run_until_complete(asyncio.wait(set(calls), timeout=seconds, return_when=asyncio.FIRST_COMPLETED))

    def value(self, awaitable: Awaitable[Any]) -> Any:
        """Waits for it. Raises what it raises, and what the check does."""
        task = self.start(awaitable)
        while not task.done():
            self._check()
            self.wait({task}, POLL_SECONDS)
        return value_of(task)

    def close(self) -> None:
        """Cancels what still goes on, and ends the loop."""
        if self._loop is None:
            return
        left = asyncio.all_tasks(self._loop)
        for task in left:
            task.add_done_callback(_look_at)
            task.cancel()
        while left:
            try:
                self._loop.run_until_complete(asyncio.wait(left, timeout=CLOSING_SECONDS))
                break
            except SystemExit:  # of one that is done by that; the others go on cleaning up
                left = {task for task in left if not task.done()}
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()
        self._loop = None

    def _made(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
        return self._loop


def _look_at(call: Call) -> None:
    """Asks for what a call raised, since nobody else may: the run ends with the first of several that fail."""
    if call.done() and not call.cancelled():
        call.exception()


def value_of(call: Call) -> Any:
    """What a call that is done gave. Raises what it raised, SystemExit too."""
    if call.cancelled():
        raise RuntimeError("the call was canceled from within")
    given = call.result()
    if isinstance(given, _Left):
        raise given.raised
    return given


async def _guarded(awaitable: Awaitable[Any]) -> Any:
    try:
        return await awaitable
    except SystemExit as raised:
        return _Left(raised)
