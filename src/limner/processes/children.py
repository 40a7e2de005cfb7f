"""The child processes of `limner serve`: started, restarted when they end, stopped in order."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from asyncio.subprocess import Process
from collections.abc import Mapping, Sequence

from limner import logs
from limner.worker.orphans import die_with_parent

log = logs.get("serve")

FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 5.0
STEADY_SECONDS = 10.0  # who ran this long starts again without a pause
MISCONFIGURED = 2


class Child:
    """One program that shall run. `env` is added to our environment.

    `gave_up` is set when it says, by exit code 2, that it cannot; with `may_give_up` false that code says nothing
    (a panic in a Go program ends with it), and the program is started again.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        keep_open: Sequence[int] = (),
        stop_seconds: float = 10.0,
        may_give_up: bool = True,
    ) -> None:
        self.name = name
        self._command = list(command)
        self._env = {**os.environ, **(env or {})}
        self._keep_open = tuple(keep_open)
        self._stop_seconds = stop_seconds
        self._may_give_up = may_give_up
        self._process: Process | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._stopping = False
        self.gave_up = asyncio.Event()

    def start(self) -> None:
        self._supervisor = asyncio.create_task(self._supervise(), name=self.name)

    async def stop(self) -> None:
        """SIGTERM, and SIGKILL for one that does not end in its time."""
        self._stopping = True
        process = self._process
        if process is not None and process.returncode is None:
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), self._stop_seconds)
            except TimeoutError:
                log.warning(
                    "a process did not stop in time; it is killed", process=self.name, seconds=self._stop_seconds
                )
                self.kill()
        if self._supervisor is not None:
            self._supervisor.cancel()
            await asyncio.gather(self._supervisor, return_exceptions=True)
        if process is not None:
            await process.wait()

    def kill(self) -> None:
        self._stopping = True
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    async def _supervise(self) -> None:
        pause = FIRST_PAUSE_SECONDS
        while True:
            began = time.monotonic()
            try:
                ended = how(code := await self._run_once())
            except OSError as error:  # no memory or no file handles for another process just now
                code, ended = None, f"not started: {error}"
            if self._stopping:
                return
            if code == MISCONFIGURED and self._may_give_up:
                self.gave_up.set()
                return
            pause = FIRST_PAUSE_SECONDS if time.monotonic() - began > STEADY_SECONDS else pause
            log.warning("a process ended; it is started again", process=self.name, ended=ended, pause_seconds=pause)
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)

    async def _run_once(self) -> int:
        """Children get their own session: a Ctrl-C at the terminal is for the parent, which stops them in order."""
        self._process = await asyncio.create_subprocess_exec(
            *self._command,
            env=self._env,
            stdin=asyncio.subprocess.DEVNULL,
            pass_fds=self._keep_open,
            start_new_session=True,
            preexec_fn=die_with_parent,
        )
        if self._stopping:
            self._process.kill()
        return await self._process.wait()


def python_module(module: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", module, *arguments]


def how(code: int) -> str:
    """An exit code in words."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
