"""The child processes of `limner serve` and `limner worker`: started, restarted when they end, stopped in order."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from asyncio.subprocess import Process
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from limner import logs
from limner.processes.logfile import LogFile
from limner.worker.orphans import die_with_parent

log = logs.get("serve")

MISCONFIGURED = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Pauses:
    """How long to wait before a start that follows an end: doubling, up to the longest.

    Who ran for `steady` seconds begins with the first again.
    """

    first: float = 0.1
    longest: float = 5.0
    steady: float = 10.0


class Child:
    """One program that shall run, in a session of its own.

    `env`: its whole environment, ours where there is none. `log_file`: where its output goes, ours where there is none.
    `whole_group`: the program's own children are stopped and killed with it; it is told by the end of its standard
    input that we are gone.
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
        log_file: LogFile | None = None,
        stop_seconds: float = 10.0,
        may_give_up: bool = True,
        whole_group: bool = False,
        pauses: Pauses = Pauses(),
    ) -> None:
        self.name = name
        self._command = list(command)
        self._env = env
        self._keep_open = tuple(keep_open)
        self._log_file = log_file
        self._stop_seconds = stop_seconds
        self._may_give_up = may_give_up
        self._whole_group = whole_group
        self._pauses = pauses
        self._process: Process | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._stopping = False
        self._retired = False
        self._asked = False  # the end that is to come was asked for
        self.gave_up = asyncio.Event()

    def start(self) -> None:
        self._supervisor = asyncio.create_task(self._supervise(), name=self.name)

    async def restart(self) -> None:
        """Stops the program, so that it is started again after the usual pause. Does nothing while it does not run."""
        process = self._process
        if process is not None and process.returncode is None and not self._stopping:
            self._asked = True
            await self._end(process)

    def retire(self) -> None:
        """From now on it is not started again when it ends."""
        self._retired = True

    async def stop(self) -> None:
        """SIGTERM, and SIGKILL for one that does not end in its time."""
        self._stopping = True
        process = self._process
        if process is not None and process.returncode is None:
            await self._end(process)
        if self._supervisor is not None:
            self._supervisor.cancel()
            await asyncio.gather(self._supervisor, return_exceptions=True)
        if self._process is not None:
            await self._process.wait()

    def kill(self) -> None:
        self._stopping = True
        if self._process is not None:
            self._signal(self._process, signal.SIGKILL)

    async def _end(self, process: Process) -> None:
        self._signal(process, signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), self._stop_seconds)
        except TimeoutError:
            log.warning("a process did not stop in time; it is killed", process=self.name, seconds=self._stop_seconds)
            self._signal(process, signal.SIGKILL)

    def _signal(self, process: Process, number: signal.Signals) -> None:
        """To a group also after its leader has ended: others may still be there."""
        with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS: no permission for one that has ended
            if self._whole_group:
                os.killpg(process.pid, number)
            elif process.returncode is None:
                process.send_signal(number)

    async def _supervise(self) -> None:
        pause = self._pauses.first
        while not self._retired:
            began = time.monotonic()
            try:
                ended = how(code := await self._run_once())
            except OSError as error:  # no memory or no file handles for another process just now
                code, ended = None, f"not started: {error}"
            if self._stopping or self._retired:
                return
            if code == MISCONFIGURED and self._may_give_up:
                self.gave_up.set()
                return
            pause = self._pauses.first if time.monotonic() - began > self._pauses.steady else pause
            self._tell(ended, pause)
            self._asked = False
            await asyncio.sleep(pause)
            pause = min(pause * 2, self._pauses.longest)

    def _tell(self, ended: str, pause: float) -> None:
        told: dict[str, Any] = {"process": self.name, "ended": ended, "pause_seconds": pause}
        if self._log_file is not None:
            told["log_file"] = str(self._log_file.path)
        if self._asked:
            log.info("a process was stopped to be started again", **told)
        else:
            log.warning("a process ended; it is started again", **told)

    async def _run_once(self) -> int:
        """Children get their own session: a Ctrl-C at the terminal is for the parent, which stops them in order."""
        with contextlib.ExitStack() as held:
            output = held.enter_context(self._log_file.open()) if self._log_file is not None else None
            alive = held.enter_context(_alive()) if self._whole_group else asyncio.subprocess.DEVNULL
            self._process = process = await asyncio.create_subprocess_exec(
                *self._command,
                env=self._env,
                stdin=alive,
                stdout=output,
                stderr=output,
                pass_fds=self._keep_open,
                start_new_session=True,
                preexec_fn=None if self._whole_group else die_with_parent,
            )
            try:
                if self._stopping:
                    self._signal(process, signal.SIGKILL)
                return await process.wait()
            finally:
                if self._whole_group:
                    self._signal(process, signal.SIGKILL)


@contextlib.contextmanager
def _alive() -> Iterator[int]:
    """The end to read from of a pipe that nobody writes to: it ends with us, whatever ends us."""
    theirs, ours = os.pipe()
    try:
        yield theirs
    finally:
        os.close(theirs)
        os.close(ours)


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
