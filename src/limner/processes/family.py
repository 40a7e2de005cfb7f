"""The children of one parent: run until they are told to stop, or until one gives up; then stopped in order."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol

from limner.processes.children import MISCONFIGURED


class Member(Protocol):
    """A child process, or something around one."""

    @property
    def gave_up(self) -> asyncio.Event: ...

    def start(self) -> None: ...

    async def stop(self) -> None: ...

    def kill(self) -> None: ...


class Family:
    """`groups` in the order in which they are stopped: the members of a group together, group after group.

    `on_stop` is called before the first of them.
    """

    def __init__(self, *groups: Sequence[Member], on_stop: Callable[[], None] = lambda: None) -> None:
        self._on_stop = on_stop
        self._groups = groups
        self._members = [member for group in groups for member in group]
        self._stop = asyncio.Event()

    async def run(self, starting: Coroutine[Any, Any, None]) -> int:
        """Starts them, and waits for Ctrl-C or SIGTERM, or until one gives up; then stops them. Gives the exit code.

        A second signal ends all at once.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._on_signal)
        await starting
        ends = [asyncio.create_task(member.gave_up.wait()) for member in self._members]
        ends.append(asyncio.create_task(self._stop.wait()))
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        for task in ends:
            task.cancel()
        self._on_stop()
        for group in self._groups:
            await asyncio.gather(*(member.stop() for member in group))
        return MISCONFIGURED if any(member.gave_up.is_set() for member in self._members) else 0

    def _on_signal(self) -> None:
        if self._stop.is_set():
            for member in self._members:
                member.kill()
        self._stop.set()
