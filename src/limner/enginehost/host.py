"""The engine process from the inside: takes runs from the supervisor, one after the other, and tells how they go.

The main thread runs nodes; a second one reads the socket, so that an interrupt is heard while a node computes.
"""

from __future__ import annotations

import os
import queue
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field, fields
from itertools import count
from pathlib import Path
from typing import Any, Protocol

from limner.engine.context import RunContext
from limner.engine.events import (
    Event,
    NodeFinished,
    NodeOutput,
    NodeRef,
    NodesCached,
    PreviewReady,
    RunFailed,
    RunInterrupted,
    RunResult,
    RunStarted,
    RunSucceeded,
)
from limner.engine.executor import Executor
from limner.enginehost import protocol
from limner.enginehost.channel import Channel
from limner.enginehost.files import RunFiles
from limner.enginehost.protocol import EngineInfo, Frame, RunRequest
from limner.errors import BadName, Interrupted, LimnerError

RELIST_SECONDS = 3.0
IDLE_SECONDS = 0.2
OUTCOMES = {RunSucceeded: "succeeded", RunFailed: "failed", RunInterrupted: "interrupted"}
FOLLOWED_AT_ONCE = (RunStarted, NodesCached, NodeFinished, RunSucceeded, RunFailed, RunInterrupted)


class Models(Protocol):
    """What the host needs of the model library."""

    def resident(self) -> list[str]: ...

    def unload(self) -> None: ...


Ask = Callable[[list[dict[str, Any]], Callable[[list[Any]], None]], None]
"""(questions, what takes the verdicts): answers from another thread."""

Tell = Callable[[dict[str, Any], bytes], None]
Serve = Callable[[dict[str, Any], bytes, Tell], None]
"""(request, its body, what takes the answer and its body): the routes of node packs, answered from another thread."""

Beside = Callable[[RunContext, RunRequest, Callable[[], None]], AbstractContextManager[object]]
"""(context, request, what stops the run) -> what a run is wrapped in."""


SPARE_FILES = 64
"""How many files a run may have to open beside what nodes hold."""


def worn() -> str:
    """Why this process can serve no further run; empty where it can."""
    spare: list[int] = []
    try:
        for _ in range(SPARE_FILES):
            spare.append(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        return f"its nodes left too many files open ({error.strerror})"
    finally:
        for number in spare:
            os.close(number)
    return ""


def nothing_beside(*_: object) -> AbstractContextManager[object]:
    return nullcontext()


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """All that takes long to load: nodes, models, and what they need."""

    executor: Executor
    models: Models
    services: Mapping[type, Any] = field(default_factory=dict)
    preload: Callable[[], None] = lambda: None  # what the first run would have to wait for
    computing: Callable[[], AbstractContextManager[object]] = nullcontext  # what nodes run in
    ask: Ask | None = None  # what node classes say of inputs
    serve: Serve | None = None  # requests to the routes of node packs, where these are on
    beside: Beside = nothing_beside  # what goes on beside a run: node packs know which one it is


class Host:
    """`describe` gives the engine's info (cheap, called often); `load` brings in torch and the nodes, once."""

    def __init__(self, channel: Channel, *, describe: Callable[[bool], EngineInfo], load: Callable[[], Loaded]) -> None:
        self._channel = channel
        self._describe = describe
        self._load = load
        self._work: queue.SimpleQueue[Frame] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[Frame] = queue.SimpleQueue()
        self._waiting: set[int] = set()  # runs not begun yet; whoever takes one out has to end it
        self._stopped: set[int] = set()
        self._previews = False
        self._announcing = threading.Lock()
        self._models: Models | None = None
        self._ask: Ask | None = None
        self._serve: Serve | None = None
        self._info: EngineInfo | None = None
        self._ctx: RunContext | None = None
        self._ready = False

    def serve(self) -> None:
        """Says what this engine is, loads, and then works until the supervisor hangs up."""
        self.announce()
        threading.Thread(target=self._read, name="supervisor", daemon=True).start()
        loaded = self._load()
        self._models = loaded.models
        self._ask = loaded.ask
        self._serve = loaded.serve
        self._ready = True
        self.announce()
        frame = self._first_work(loaded)
        while True:
            if frame.kind == protocol.RUN:
                request = RunRequest(**{k: v for k, v in frame.header.items() if k != "kind"})
                if self._takes(request.run):
                    self._retire(self._run(loaded, request) or worn())
                self._stopped.discard(request.run)
            elif frame.kind == protocol.RETRACT:
                loaded.executor.retract()
            else:
                _free(loaded, frame.header)
            frame = self._work.get()

    def _retire(self, reason: str) -> None:
        """Ends this process where nodes have left it in a state to serve nobody; the supervisor starts a fresh one."""
        if reason:
            self._channel.send({"kind": protocol.FATAL, "message": reason})
            os._exit(1)

    def _first_work(self, loaded: Loaded) -> Frame:
        """Where none waits, the time is used to load what the first run would have to wait for.

        On this thread: two threads that import the same libraries can meet half-made modules.
        """
        try:
            return self._work.get(timeout=IDLE_SECONDS)
        except queue.Empty:
            loaded.preload()
        return self._work.get()

    def announce(self) -> None:
        """Sends the engine's info if it is not what the supervisor last heard. Both threads do, one at a time."""
        with self._announcing:
            info = self._describe(self._ready)
            if info != self._info:
                self._info = info
                self._channel.send({"kind": protocol.INFO, "info": asdict(info)})

    def _read(self) -> None:
        """The second thread. A supervisor that is gone takes the engine with it, whatever a node is doing."""
        try:
            self._channel.read(self._take, every_seconds=RELIST_SECONDS, on_tick=self.announce)
        finally:
            os._exit(0)

    def _take(self, frame: Frame) -> None:
        match frame.kind:
            case protocol.RUN:
                self._previews = frame.header["previews"]
                self._waiting.add(frame.header["run"])
                if frame.header["interrupted"]:
                    self._stop(frame.header["run"])
                self._work.put(frame)
            case protocol.INTERRUPT:
                self._stop(frame.header["run"])
            case protocol.RESERVED:
                self._answers.put(frame)
            case protocol.CHECK:
                self._check(frame.header["call"], frame.header["questions"])
            case protocol.ROUTE:
                self._route(frame.header["call"], frame.header["asked"], frame.tail)
            case protocol.WATCH:
                self._previews = frame.header["previews"]
                if self._ctx is not None:
                    self._ctx.previews = self._previews
            case _:
                self._work.put(frame)

    def _check(self, call: int, questions: list[dict[str, Any]]) -> None:
        def answer(verdicts: list[Any]) -> None:
            self._channel.send({"kind": protocol.CHECKED, "call": call, "verdicts": verdicts})

        if self._ask is None:  # not loaded yet
            answer([None] * len(questions))
        else:
            self._ask(questions, answer)

    def _route(self, call: int, asked: dict[str, Any], body: bytes) -> None:
        def answer(told: dict[str, Any], its_body: bytes) -> None:
            self._channel.send({"kind": protocol.ROUTED, "call": call, "answer": told}, its_body)

        if self._serve is None:
            answer({"routed": False}, b"")
        else:
            self._serve(asked, body, answer)

    def _takes(self, run: int) -> bool:
        """Whether this thread is the one to end the run. `remove` is one step: it works for one thread only."""
        try:
            self._waiting.remove(run)
        except KeyError:
            return False
        return True

    def _stop(self, run: int) -> None:
        """A run that has not begun ends here and now: the main thread may import libraries for seconds."""
        self._stopped.add(run)
        if self._takes(run):
            now = round(time.time() * 1000)
            started = {"kind": protocol.EVENT, "run": run, "event": RunStarted.__name__, "data": {"timestamp_ms": now}}
            end = RunInterrupted(node=NodeRef.plain(""), node_type="", executed=(), timestamp_ms=now)
            self._channel.hold(started)
            self._channel.send(_ended(run, RunResult(end=end), [], self._models.resident() if self._models else []))

    def _run(self, loaded: Loaded, request: RunRequest) -> str:
        """Runs it and tells how it went. Gives the reason where something failed that is no node's fault, nor the
        workflow's: who knows what is broken here.
        """
        broken = ""
        calls = count(1)  # the same in every attempt, so that a second one gets the first one's names

        def ask(subfolder: str, prefix: str, extension: str, number: int) -> list[dict[str, str]]:
            wanted = {"subfolder": subfolder, "prefix": prefix, "extension": extension, "count": number}
            return self._names(protocol.RESERVE, request.run, next(calls), wanted)

        def keep(subfolder: str, filename: str, sha256: str) -> dict[str, str]:
            wanted = {"subfolder": subfolder, "filename": filename, "sha256": sha256}
            return self._names(protocol.KEEP, request.run, next(calls), wanted)[0]

        files = RunFiles(folder=Path(request.folder), inputs=request.inputs, ask=ask, keep=keep)
        self._ctx = RunContext(
            prompt_id=request.prompt_id,
            tenant=request.tenant,
            node=NodeRef.plain(""),
            prompt=request.workflow,
            extra_pnginfo=request.extra_data.get("extra_pnginfo"),
            files=files,
            services=loaded.services,
            previews=request.previews,
        )
        self._ctx.previews = self._previews  # somebody may have come to look since the request was sent
        try:
            with loaded.computing(), loaded.beside(self._ctx, request, lambda: self._stopped.add(request.run)):
                result = loaded.executor.run(
                    workflow=request.workflow,
                    outputs=request.outputs,
                    ctx=self._ctx,
                    emit=lambda event: self._emit(request.run, event, files),
                    interrupted=lambda: request.run in self._stopped,
                )
        except Exception as error:  # no node's fault: those are results
            result = RunResult(end=_stumbled(error))
            if not isinstance(error, LimnerError):
                broken = f"{type(error).__name__}: {error}"
        finally:
            self._ctx = None
        self._channel.send(_ended(request.run, result, files.written(), loaded.models.resident()))
        return broken

    def _emit(self, run: int, event: Event, files: RunFiles) -> None:
        header: dict[str, Any] = {"kind": protocol.EVENT, "run": run, "event": type(event).__name__}
        if isinstance(event, PreviewReady):
            header["data"] = {"node": plain(event.node), "image_type": event.image_type}
            self._channel.send(header, event.data)
            return
        header["data"] = plain(event)
        if isinstance(event, NodeOutput) and not event.cached:
            header["files"] = files.written()
        if isinstance(event, FOLLOWED_AT_ONCE):
            self._channel.hold(header)
        else:
            self._channel.send(header)

    def _names(self, kind: str, run: int, call: int, wanted: dict[str, Any]) -> list[dict[str, str]]:
        """Asks the supervisor for names and waits, for as long as it takes or until the run is interrupted."""
        self._channel.send({"kind": kind, "run": run, "call": call, **wanted})
        while True:
            try:
                answer = self._answers.get(timeout=0.2).header
            except queue.Empty:
                if run in self._stopped:
                    raise Interrupted("interrupted while it waited for file names") from None
                continue
            if (answer["run"], answer["call"]) != (run, call):
                continue  # the answer to a question of a run that was interrupted
            if not answer["ok"]:
                raise BadName(answer["reason"])
            return [{"filename": n["filename"], "subfolder": n["subfolder"]} for n in answer["names"]]


def plain(event: Event | NodeRef) -> dict[str, Any]:
    """An event's members, as `dataclasses.asdict` gives them but without copying what is in them."""
    values = ((f.name, getattr(event, f.name)) for f in fields(event))
    return {name: plain(value) if isinstance(value, NodeRef) else value for name, value in values}


def _ended(run: int, result: RunResult, files: list[dict[str, str]], models: list[str]) -> dict[str, Any]:
    return {
        "kind": protocol.ENDED,
        "run": run,
        "outcome": OUTCOMES[type(result.end)],
        "end": plain(result.end),
        "outputs": result.outputs,
        "meta": result.meta,
        "files": files,
        "models": models,
    }


def _stumbled(error: Exception) -> RunFailed:
    return RunFailed(
        node=NodeRef.plain(""),
        node_type="",
        exception_type=type(error).__name__,
        exception_message=f"{error}\n",
        traceback=tuple(traceback.format_tb(error.__traceback__)),
        current_inputs={},
        current_outputs=(),
        executed=(),
        code=error.code if isinstance(error, LimnerError) else LimnerError.code,
        retryable=not isinstance(error, LimnerError),  # in a fresh process it may go well
        timestamp_ms=round(time.time() * 1000),
    )


def _free(loaded: Loaded, header: dict[str, Any]) -> None:
    """As ComfyUI's POST /free: dropping results implies unloading."""
    if header["free_memory"]:
        loaded.executor.forget()
    if header["unload_models"] or header["free_memory"]:
        loaded.models.unload()
