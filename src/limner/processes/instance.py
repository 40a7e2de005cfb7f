"""A ComfyUI that Limner starts: kept running, started again when its supervisor asks, its output in a log file.

It belongs to the parent of the supervisors, not to its own one: a killed supervisor comes back and finds its run.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence

from limner import logs
from limner.processes.children import Child, Pauses, python_module
from limner.processes.logfile import LogFile
from limner.settings import PREFIX

log = logs.get("comfyui")

PAUSES = Pauses(first=1.0, longest=60.0, steady=60.0)
STOP_SECONDS = 10.0


class Instance:
    """Runs `command`. Whoever writes a byte to `restart_fd` has it started again."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        log_file: LogFile,
        pauses: Pauses = PAUSES,
        stop_seconds: float = STOP_SECONDS,
    ) -> None:
        self.name = name
        self._log_file = log_file
        self._child = Child(
            name,
            python_module("limner.processes.guard", *command),
            env=environment(os.environ),
            log_file=log_file,
            stop_seconds=stop_seconds,
            may_give_up=False,
            whole_group=True,
            pauses=pauses,
        )
        self._asked, self.restart_fd = os.pipe()
        self._restart: asyncio.Task[None] | None = None
        self._watch: asyncio.Task[None] | None = None

    @property
    def gave_up(self) -> asyncio.Event:
        return self._child.gave_up

    def start(self) -> None:
        log.info("a ComfyUI is started", process=self.name, log_file=str(self._log_file.path))
        self._watch = asyncio.create_task(self._log_file.watch())
        os.set_blocking(self._asked, False)
        asyncio.get_running_loop().add_reader(self._asked, self._on_asked)
        self._child.start()

    def retire(self) -> None:
        self._child.retire()

    async def stop(self) -> None:
        asyncio.get_running_loop().remove_reader(self._asked)
        await self._child.stop()
        for task in (self._restart, self._watch):
            if task is not None:
                task.cancel()
                await asyncio.wait({task})
        os.close(self._asked)
        os.close(self.restart_fd)

    def kill(self) -> None:
        self._child.kill()

    def _on_asked(self) -> None:
        """What is asked for while it is being stopped means the same stop."""
        os.read(self._asked, 4096)
        if self._restart is None or self._restart.done():
            log.warning("the supervisor asks for its ComfyUI to be started again", process=self.name)
            self._restart = asyncio.create_task(self._child.restart())


def environment(ours: Mapping[str, str]) -> dict[str, str]:
    """What a ComfyUI inherits: everything but our settings, which hold credentials that no node pack shall read."""
    return {name: value for name, value in ours.items() if not name.startswith(PREFIX)}
