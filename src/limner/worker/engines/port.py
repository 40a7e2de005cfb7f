"""An engine as the supervisor sees it: something that runs one workflow at a time and tells how it goes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

from limner.enginehost.protocol import EngineInfo, RunRequest
from limner.errors import LimnerError


class EngineLost(LimnerError):
    """The engine ended, or could not be started. The run it had, if any, is lost; another attempt may do better."""

    code = "worker_lost"
    retryable = True


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineEvent:
    """`kind` is the class name of an `engine.events` event, `data` its members. `files`: written, and named in it."""

    kind: str
    data: dict[str, Any]
    files: list[dict[str, str]] = field(default_factory=list)
    picture: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A node's question for names of output files. `call` counts the questions of a run."""

    call: int
    subfolder: str
    prefix: str
    extension: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """An output file that the engine has named itself."""

    subfolder: str
    filename: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEnded:
    """outcome: "succeeded" | "failed" | "interrupted" | "unfit"; `end` has the members of the event that ended the run.

    "unfit": this engine lacks a node or a model that the run names; `end` is that of a failure.
    """

    outcome: str
    end: dict[str, Any]
    outputs: dict[str, Any] = field(default_factory=dict)
    meta: dict[str, Any] = field(default_factory=dict)
    files: list[dict[str, str]] = field(default_factory=list)
    models: list[str] = field(default_factory=list)


class Sink(Protocol):
    """Where a run's news go. The engine waits for each call; what one raises stops the run and comes out of it.

    But for BadName from `reserve`: that is the fault of the node that asked, and is raised there.
    """

    async def event(self, event: EngineEvent) -> None: ...

    async def reserve(self, wanted: Wanted) -> list[dict[str, str]]: ...

    async def keep(self, files: list[Named]) -> list[dict[str, str]]:
        """The names that these files are to have: their own, unless other files of the tenant have them already.

        Each answer has `filename`, `subfolder` and `key`; without a key the bytes are stored already.
        """
        ...


class Engine(Protocol):
    @property
    def info(self) -> EngineInfo: ...

    @property
    def alive(self) -> bool: ...

    @property
    def resumes(self) -> bool:
        """Whether a run outlives its supervisor, and can be taken up again by the next one."""
        ...

    async def start(self) -> None:
        """Starts it and waits until it can run. Raises EngineLost where it ends instead."""
        ...

    async def run(self, request: RunRequest, sink: Sink) -> RunEnded:
        """Runs one workflow to its end. Raises EngineLost when the engine ends before the run does."""
        ...

    async def interrupt(self) -> None:
        """Asks the run to stop; one that does not within the grace is stopped by force. Does nothing while idle."""
        ...

    async def watch(self, previews: bool) -> None:
        """Whether somebody watches the run, so that previews are worth making."""
        ...

    async def retract(self) -> None:
        """The last run's end was refused: what it made must not be answered from a cache."""
        ...

    async def accepted(self) -> None:
        """The last run's end was accepted for good: what only served to find it again can go."""
        ...

    async def renew(self) -> None:
        """Several jobs in a row failed for no fault of theirs: brings the engine into a fresh state, if it can."""
        ...

    @property
    def checks(self) -> bool:
        """Whether it can say, beside a run, what node classes think of inputs."""
        ...

    async def check(self, questions: list[dict[str, Any]]) -> list[Any]:
        """A verdict for each question (`bus.messages.Checked`), null where there was none in time."""
        ...

    async def route(self, asked: dict[str, Any], body: bytes) -> tuple[dict[str, Any], bytes]:
        """The answer to a request for a node pack (`bus.messages.Routed`) with its body, beside a run."""
        ...

    async def free(self, *, unload_models: bool, free_memory: bool) -> None: ...

    async def close(self) -> None: ...
