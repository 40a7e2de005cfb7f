"""Limner's own engine: a child process at the other end of a socketpair."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from asyncio.subprocess import Process
from collections.abc import Callable, Sequence
from dataclasses import fields
from itertools import count
from pathlib import Path
from typing import Any, cast

from limner import logs
from limner.enginehost import protocol
from limner.enginehost.protocol import Decoder, EngineInfo, Frame, RunRequest, encode
from limner.errors import BadName
from limner.worker.engines.port import EngineEvent, EngineLost, Named, RunEnded, Sink, Wanted

log = logs.get("engine")

GRACE_SECONDS = 10.0
START_SECONDS = 300.0  # a cold disk and a busy machine make torch slow to load
START_NEWS_SECONDS = 15.0
LAST_NEWS_SECONDS = 1.0  # how long what a dead engine has sent may take to be read
CHECK_SECONDS = 1.5
ROUTE_SECONDS = 33.0  # more than the engine gives the handlers of node packs
PAUSE_ABOVE_FRAMES = 256
LONGEST_LINE_BYTES = 1 << 20
KEPT_VARIABLES = (
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "TZ",
    "TMPDIR",
    "TEMP",
    "TMP",
    "SYSTEMROOT",
    "LD_LIBRARY_PATH",
    "HF_HOME",
)
KEPT_PREFIXES = ("CUDA_", "NVIDIA_", "HIP_", "ROCR_", "OMP_", "MKL_", "TORCH", "PYTORCH_", "PYTHON", "VIRTUAL_ENV")


def engine_command(
    models: Sequence[Path],
    *,
    custom_nodes: Sequence[Path] = (),
    work: Path | None = None,
    cache: str = "classic",
    custom_node_routes: bool = False,
    options: Sequence[str] = (),
) -> list[str]:
    """How the real engine process is started; the socket's number is appended. `work`: a folder for custom nodes.

    `cache`: which results it keeps between runs, as LIMNER_CACHE says it. `options`: further arguments.
    """
    command = [sys.executable, "-m", "limner.processes.engine", "--cache", cache, *options]
    for folder in models:
        command += ["--models", str(folder)]
    for folder in custom_nodes:
        command += ["--custom-nodes", str(folder)]
    if custom_node_routes:
        command.append("--custom-node-routes")
    if custom_nodes and work is not None:
        command += ["--work", str(work)]
    return command


class OwnEngine:
    """Starts `command` with `--fd N` added. `on_info` hears what the engine says of itself, changes included."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        on_info: Callable[[EngineInfo], None] | None = None,
        grace_seconds: float = GRACE_SECONDS,
    ) -> None:
        self._command = list(command)
        self.on_info = on_info or (lambda _: None)
        self._grace = grace_seconds
        self._process: Process | None = None
        self._wire: _Wire | None = None
        self._output: asyncio.Task[None] | None = None
        self._end: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()
        self._run = 0  # number of the run that goes on now, 0 for none
        self._killer: asyncio.TimerHandle | None = None
        self._killed_for_interrupt = False
        self._last_words = ""
        self._calls = count(1)
        self._checks: dict[int, asyncio.Future[list[Any]]] = {}
        self._routed: dict[int, asyncio.Future[Frame]] = {}
        self.info = EngineInfo()

    @property
    def alive(self) -> bool:
        return self._wire is not None and not self._wire.closed

    async def start(self) -> None:
        """Starts the process and waits until it has loaded its libraries. Raises EngineLost after `START_SECONDS`."""
        await self.close()
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        # A pipe of our own: with one of asyncio's, `wait` waits until everybody has closed it (from Python 3.11 on).
        output, its_output = os.pipe()
        self._ready.clear()
        self._last_words = ""
        try:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                "--fd",
                str(theirs.fileno()),
                pass_fds=(theirs.fileno(),),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=its_output,
                stderr=asyncio.subprocess.STDOUT,
                env=clean_environment(),
                start_new_session=True,
            )
        except BaseException as error:
            ours.close()
            os.close(output)
            if not isinstance(error, OSError):  # the start was broken off
                raise
            raise EngineLost(f"the engine process cannot be started: {error}") from error
        finally:
            theirs.close()
            os.close(its_output)
        wire = _Wire(self._heard)
        self._end = asyncio.create_task(_follow(self._process, wire))
        self._output = asyncio.create_task(_log_output(self._process.pid, output))
        await asyncio.get_running_loop().create_unix_connection(lambda: wire, sock=ours)
        self._wire = wire
        await self._wait_until_ready(wire)
        if not self._ready.is_set():
            raise await self._lost("while it started")

    async def run(self, request: RunRequest, sink: Sink) -> RunEnded:
        """Runs one workflow; see the port. A run that had to be killed after an interrupt counts as interrupted."""
        wire = self._wire
        if wire is None or wire.closed:
            raise await self._lost("before the run began")
        self._run = request.run
        self._killed_for_interrupt = False
        node: dict[str, Any] = {}
        fault: Exception | None = None
        wire.send({"kind": protocol.RUN, **{f.name: getattr(request, f.name) for f in fields(request)}})
        try:
            while (frame := await wire.next()) is not None:
                header = frame.header
                if header["run"] != request.run:
                    continue
                if frame.kind == protocol.ENDED:
                    break
                if header.get("event") == "NodeStarted":
                    node = header["data"]["node"]
                if fault is None:
                    try:
                        await self._pass_on(wire, frame, sink)
                    except Exception as error:  # the run is stopped first, then it is raised
                        fault = error
                        await self.interrupt()
        finally:
            self._run_is_over()
        if fault is not None:
            raise fault
        if frame is not None:
            return _ended(frame.header)
        class_type = _class_of(node, request)
        if self._killed_for_interrupt:
            return RunEnded(outcome="interrupted", end={"node": node, "node_type": class_type, "executed": []})
        lost = await self._lost(f"while node {node['id']} ({class_type}) ran" if node else "while a workflow ran")
        lost.details |= {"node": node, "node_type": class_type}
        raise lost

    async def interrupt(self) -> None:
        """Asks the run to stop, and kills the engine where that does not help within the grace."""
        if self._run and self._wire is not None and self._killer is None:
            self._wire.send({"kind": protocol.INTERRUPT, "run": self._run})
            self._killer = asyncio.get_running_loop().call_later(self._grace, self._kill_deaf_engine)

    async def watch(self, previews: bool) -> None:
        if self._wire is not None:
            self._wire.send({"kind": protocol.WATCH, "previews": previews})

    async def retract(self) -> None:
        if self._wire is not None:
            self._wire.send({"kind": protocol.RETRACT})

    @property
    def resumes(self) -> bool:
        return False  # the process ends with its supervisor

    @property
    def checks(self) -> bool:
        return True

    async def check(self, questions: list[dict[str, Any]]) -> list[Any]:
        """Asked on a thread beside the run; code that does not come back is not waited for."""
        unknown: list[Any] = [None] * len(questions)
        if self._wire is None or self._wire.closed or not self._ready.is_set():
            return unknown
        call = next(self._calls)
        answer = self._checks[call] = asyncio.get_running_loop().create_future()
        self._wire.send({"kind": protocol.CHECK, "call": call, "questions": questions})
        try:
            return await asyncio.wait_for(answer, CHECK_SECONDS)
        except TimeoutError:
            return unknown
        finally:
            del self._checks[call]

    async def route(self, asked: dict[str, Any], body: bytes) -> tuple[dict[str, Any], bytes]:
        """The engine keeps its own time; one that says nothing at all is given up a little later."""
        wire = self._wire
        if wire is None or wire.closed or not self._ready.is_set():
            return _unavailable("the engine with this node pack is starting"), b""
        call = next(self._calls)
        answer = self._routed[call] = asyncio.get_running_loop().create_future()
        wire.send({"kind": protocol.ROUTE, "call": call, "asked": asked}, body)
        ended = asyncio.create_task(wire.ended.wait())
        try:
            await asyncio.wait({answer, ended}, timeout=ROUTE_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        finally:
            del self._routed[call]
            ended.cancel()
        if answer.done():
            frame = answer.result()
            return frame.header["answer"], frame.tail
        return _unavailable("the engine with this node pack is gone, or says nothing"), b""

    async def accepted(self) -> None:
        """Nothing was kept for the run's sake."""

    async def renew(self) -> None:
        """A fresh process; the next job starts it."""
        await self.close()

    async def free(self, *, unload_models: bool, free_memory: bool) -> None:
        if self._wire is not None:
            self._wire.send({"kind": protocol.FREE, "unload_models": unload_models, "free_memory": free_memory})

    async def close(self) -> None:
        """Ends the process. It goes by itself when the socket closes; what does not is killed."""
        self._run_is_over()
        if self._wire is not None:
            self._wire.close()
            self._wire = None
        if self._process is not None:
            try:
                await asyncio.wait_for(self._process.wait(), 2.0)
            except TimeoutError:
                self._kill()
                await self._process.wait()
            self._process = None
        if self._end is not None:
            await self._end
            self._end = None
        if self._output is not None:  # a process that a node started may keep the pipe open
            await asyncio.wait({self._output}, timeout=1.0)
            self._output.cancel()
            await asyncio.wait({self._output})
            self._output = None

    async def _wait_until_ready(self, wire: _Wire) -> None:
        """Until the engine is ready or gone, or its time is over."""
        ready, ended = asyncio.create_task(self._ready.wait()), asyncio.create_task(wire.ended.wait())
        began = time.monotonic()
        try:
            while (left := began + START_SECONDS - time.monotonic()) > 0:
                news = min(START_NEWS_SECONDS, left)
                if (await asyncio.wait({ready, ended}, timeout=news, return_when=asyncio.FIRST_COMPLETED))[0]:
                    return
                log.info("the engine still loads", seconds=round(time.monotonic() - began))
            self._last_words = f"it was not ready after {START_SECONDS:.0f} s"
        finally:
            ready.cancel()
            ended.cancel()

    def _heard(self, frame: Frame) -> bool:
        """Takes what belongs to no run. True: it was such a frame."""
        if frame.kind == protocol.INFO:
            self.info = EngineInfo(**frame.header["info"])
            if self.info.ready:
                self._ready.set()
            self.on_info(self.info)
            return True
        if frame.kind == protocol.FATAL:
            self._last_words = frame.header["message"]
            return True
        if frame.kind == protocol.CHECKED:
            answer = self._checks.get(frame.header["call"])
            if answer is not None and not answer.done():
                answer.set_result(frame.header["verdicts"])
            return True
        if frame.kind == protocol.ROUTED:
            routed = self._routed.get(frame.header["call"])
            if routed is not None and not routed.done():
                routed.set_result(frame)
            return True
        if frame.kind == protocol.ENDED and frame.header["run"] == self._run:
            self._run_is_over()  # it did stop, however long what it has told before takes us
        return False

    async def _pass_on(self, wire: _Wire, frame: Frame, sink: Sink) -> None:
        header = frame.header
        if frame.kind == protocol.EVENT:
            files = header.get("files", [])
            await sink.event(EngineEvent(kind=header["event"], data=header["data"], files=files, picture=frame.tail))
        elif frame.kind in (protocol.RESERVE, protocol.KEEP):
            answer: dict[str, Any] = {"ok": True, "reason": ""}
            try:
                answer["names"] = await _names(frame, sink)
            except BadName as error:  # the node's own fault, and so raised there
                answer = {"ok": False, "reason": error.message}
            wire.send({"kind": protocol.RESERVED, "run": header["run"], "call": header["call"], **answer})

    def _run_is_over(self) -> None:
        self._run = 0
        if self._killer is not None:
            self._killer.cancel()
            self._killer = None

    def _kill_deaf_engine(self) -> None:
        log.warning("the engine did not stop when asked to; it is killed", after_seconds=self._grace)
        self._killed_for_interrupt = True
        self._kill()

    def _kill(self) -> None:
        if self._process is not None and self._process.returncode is None:
            _kill_group(self._process.pid)

    async def _lost(self, when: str) -> EngineLost:
        """What there is to say about an engine that is gone."""
        how = self._last_words
        if self._process is not None:
            self._kill()
            code = await self._process.wait()
            how = how or _exit_text(code)
        return EngineLost(f"the engine process was lost {when}: {how or 'it is not running'}")


class _Wire(asyncio.Protocol):
    """The socket, cut into frames. Reading pauses while the run's consumer is far behind."""

    def __init__(self, heard: Callable[[Frame], bool]) -> None:
        self._heard = heard
        self._decoder = Decoder()
        self._frames: asyncio.Queue[Frame | None] = asyncio.Queue()
        self._transport: asyncio.Transport | None = None
        self._paused = False
        self.ended = asyncio.Event()

    @property
    def closed(self) -> bool:
        return self.ended.is_set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but name

    def data_received(self, data: bytes) -> None:
        try:
            for frame in self._decoder.feed(data):
                if not self._heard(frame):
                    self._frames.put_nowait(frame)
        except protocol.ProtocolBroken as error:
            log.error("the engine sent nonsense", error=str(error))
            self.close()
        if self._frames.qsize() > PAUSE_ABOVE_FRAMES and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    def connection_lost(self, _: Exception | None) -> None:
        self.ended.set()
        self._frames.put_nowait(None)

    async def next(self) -> Frame | None:
        """The next frame of a run; None once the engine is gone."""
        frame = await self._frames.get()
        if frame is None:
            self._frames.put_nowait(None)
        if self._paused and self._frames.empty() and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
        return frame

    def send(self, header: dict[str, Any], tail: bytes = b"") -> None:
        if self._transport is not None and not self.closed:
            self._transport.write(encode(header, tail))

    def close(self) -> None:
        """At once: what could not be sent yet has nobody to read it."""
        if self._transport is not None:
            self._transport.abort()


async def _names(frame: Frame, sink: Sink) -> list[dict[str, str]]:
    if frame.kind == protocol.KEEP:
        return await sink.keep([Named(**{f.name: frame.header[f.name] for f in fields(Named)})])
    return await sink.reserve(Wanted(**{f.name: frame.header[f.name] for f in fields(Wanted)}))


async def _follow(process: Process, wire: _Wire) -> None:
    """Closes the wire once the process has ended, and ends what nodes have started and left behind.

    A process of that kind may hold its inherited end of the socket open, so that the socket alone would say nothing.
    """
    await process.wait()
    _kill_group(process.pid)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(LAST_NEWS_SECONDS):
            await wire.ended.wait()
    wire.close()


async def _log_output(pid: int, pipe: int) -> None:
    """What nodes and libraries print goes to the log, line by line."""
    lines = asyncio.StreamReader(limit=LONGEST_LINE_BYTES)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(lines), os.fdopen(pipe, "rb", buffering=0)
    )
    try:
        while True:
            try:
                line = await lines.readline()
            except ValueError:
                continue  # a line over the limit is dropped
            if not line:
                return
            text = line.decode(errors="replace").rstrip()
            if text:
                log.info(text, pid=pid)
    finally:
        transport.close()


def _kill_group(leader: int) -> None:
    """An engine leads a session of its own. macOS says PermissionError where only a dead one is left of it."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def clean_environment() -> dict[str, str]:
    """What the engine process may know of our environment: no credentials, no addresses."""
    return {k: v for k, v in os.environ.items() if k in KEPT_VARIABLES or k.startswith(KEPT_PREFIXES)}


def _unavailable(message: str) -> dict[str, Any]:
    """What the engine itself would answer."""
    return {"routed": True, "status": 503, "headers": [], "fault": ["dependency_unavailable", message]}


def _ended(header: dict[str, Any]) -> RunEnded:
    return RunEnded(**{f.name: header[f.name] for f in fields(RunEnded)})


def _class_of(node: dict[str, Any], request: RunRequest) -> str:
    box = request.workflow.get(node.get("real", ""), {})
    return str(box.get("class_type", ""))


def _exit_text(code: int) -> str:
    if code >= 0:
        return f"it ended with exit code {code}"
    try:
        return f"it was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"it was ended by signal {-code}"
