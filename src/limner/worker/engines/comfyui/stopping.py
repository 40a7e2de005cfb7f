"""Stopping one prompt on an instance, and nobody else's."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from limner import logs
from limner.worker.engines.comfyui import tasks
from limner.worker.engines.comfyui.client import ComfyClient, Refused, Unreachable
from limner.worker.engines.comfyui.patience import Patience

log = logs.get("comfyui")


class Stopping:
    """Asked for at any time, before the prompt is there as well; said again and again until the prompt is gone.

    An interrupt that comes before the prompt begins is lost on a ComfyUI, and old versions stop whatever runs: so the
    queue is looked at each time, until it does not hold the prompt any more. `out` tells that the prompt left the
    queue without having run, `forced` that the instance is being restarted, `deaf` that it does not stop and nobody
    can restart it.
    """

    def __init__(
        self,
        client: ComfyClient,
        patience: Patience,
        grace_seconds: float,
        *,
        ask_restart: Callable[[], None] | None,
        tell: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.asked = asyncio.Event()
        self.out = False
        self.forced = False
        self.deaf = False
        self._client = client
        self._patience = patience
        self._grace = grace_seconds
        self._ask_restart = ask_restart
        self._tell = tell
        self._clock = clock
        self._prompt_id = ""
        self._task: asyncio.Task[None] | None = None

    @property
    def done(self) -> bool:
        """Whether there is nothing more to wait for."""
        return self.out or self.forced or self.deaf

    def ask(self) -> None:
        """The run is to stop."""
        self.asked.set()
        self._begin()

    def found(self, prompt_id: str) -> None:
        """The prompt that it is about, once that is there."""
        self._prompt_id = prompt_id
        if self.asked.is_set():
            self._begin()

    async def overdue(self) -> None:
        """Until the run has been asked to stop, and the grace for that is over."""
        await self.asked.wait()
        await asyncio.sleep(self._grace)

    async def close(self) -> None:
        """The prompt is over: there is nothing more to stop."""
        self._prompt_id = ""
        await tasks.end(self._task)

    def _begin(self) -> None:
        if self._task is None and self._prompt_id:
            self._task = asyncio.create_task(self._go_on())

    async def _go_on(self) -> None:
        began, is_there = self._clock(), True
        while is_there and not self.done:
            try:
                is_there = await self._say()
            except (Unreachable, Refused) as error:
                log.debug("a prompt could not be told to stop", error=error.message)
            if is_there:
                self._judge(self._clock() - began)
            self._tell()
            await asyncio.sleep(self._patience.stop_again)

    async def _say(self) -> bool:
        """One word: out of the queue with what waits, an interrupt for what runs. Whether it may still be there."""
        queue = await self._client.queue()
        if queue.runs(self._prompt_id):
            await self._client.interrupt(self._prompt_id)
            return True
        if queue.holds(self._prompt_id):
            await self._client.dequeue(self._prompt_id)
            is_there = (await self._client.queue()).holds(self._prompt_id)  # it may have begun meanwhile
            self.out = not is_there and await self._client.history(self._prompt_id) is None
            return is_there
        return False

    def _judge(self, seconds: float) -> None:
        if self.done or seconds < self._grace:
            return
        if self._ask_restart is not None:
            log.warning("a prompt did not stop when asked to; its ComfyUI is restarted", after_seconds=round(seconds))
            self.forced = True
            self._ask_restart()
        elif seconds >= self._patience.deaf:
            log.warning("a prompt does not stop", after_seconds=round(seconds))
            self.deaf = True
