"""RunContext: all that a node may ask of the outside."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from limner.engine.dynprompt import DynamicPrompt
from limner.engine.events import Event, NodeRef, PackEvent, PreviewReady, StepDone, TextShown, Warned
from limner.errors import LimnerError

T = TypeVar("T")
OnStep = Callable[[float, float, tuple[str, bytes] | None], None]


class NoRun(LimnerError):
    """Something that belongs to a run was asked for where none is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedFile:
    """Where a node shall write one output file, and under which name callers will find it."""

    path: Path
    filename: str
    subfolder: str
    type: str  # "output" or "temp"

    def ui(self) -> dict[str, str]:
        return {"filename": self.filename, "subfolder": self.subfolder, "type": self.type}


class Files(Protocol):
    """A run's files. The engine process has one that asks its supervisor, `limner run` one over local folders."""

    def input(self, reference: str) -> Path:
        """The local copy of an input file, named as in the workflow (`a.png`, `sub/a.png`, `a.png [output]`).

        Raises NotFound when the job has no such input, BadName when the name leaves its place.
        """
        ...

    def reserve(
        self, *, type: str, prefix: str, count: int, width: int, height: int, extension: str
    ) -> list[SavedFile]:
        """Names for `count` new files under a `filename_prefix`, each with a path to write to. Nothing is overwritten.

        `prefix` may hold folders and the tokens of WIRE section 6 (%width%, %year%, ...). Raises BadName.
        """
        ...

    def adopt(self, path: Path, *, type: str, subfolder: str, filename: str) -> SavedFile:
        """Takes over a file that a node has written elsewhere and named itself; it gets another name where that is
        taken. The file at `path` stays. Raises BadName.
        """
        ...


class RunContext:
    """Handed to every node that asks for it by a parameter named `ctx`; `current()` gives it to all other code.

    Each call of a node has its own, made by `at`, since async nodes run side by side. What the run as a whole may
    change, such as `previews`, is one for all.
    """

    __slots__ = (
        "_run", "check", "dynprompt", "extra_pnginfo", "files", "graph_prefix", "list_index", "node", "on_event",
        "on_step", "on_warning", "prompt", "prompt_id", "services", "tenant",
    )  # fmt: skip

    def __init__(
        self,
        *,
        prompt_id: str,
        tenant: str,
        node: NodeRef,
        prompt: dict[str, Any],
        extra_pnginfo: dict[str, Any] | None,
        files: Files,
        services: Mapping[type, Any] | None = None,
        previews: bool = False,
        on_step: OnStep | None = None,
        on_warning: Callable[[str], None] | None = None,
        on_event: Callable[[Event], None] = lambda _: None,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_event` hears all that nodes tell, but for steps and warnings where these have a listener of their own.
        `check` raises Interrupted once the run was asked to stop; the executor sets both.
        """
        self.prompt_id = prompt_id
        self.tenant = tenant
        self.node = node
        self.list_index = 0  # which of the node's calls this is, where its inputs are lists
        self.graph_prefix = GraphPrefix(node.id, 0)
        self.prompt = prompt
        self.dynprompt = DynamicPrompt(prompt)
        self.extra_pnginfo = extra_pnginfo
        self.files = files
        self.services: Mapping[type, Any] = services or {}
        self.on_step = on_step
        self.on_warning = on_warning
        self.on_event = on_event
        self.check = check
        self._run = _Watched(previews)

    def at(self, node: NodeRef, list_index: int = 0) -> RunContext:
        """The context of one call of a node in the same run."""
        there = object.__new__(RunContext)  # one for each call: by hand, as anything general is slower than the rest
        there.prompt_id = self.prompt_id
        there.tenant = self.tenant
        there.node = node
        there.list_index = list_index
        there.graph_prefix = GraphPrefix(node.id, list_index)
        there.prompt = self.prompt
        there.dynprompt = self.dynprompt
        there.extra_pnginfo = self.extra_pnginfo
        there.files = self.files
        there.services = self.services
        there.on_step = self.on_step
        there.on_warning = self.on_warning
        there.on_event = self.on_event
        there.check = self.check
        there._run = self._run
        return there

    @property
    def previews(self) -> bool:
        """Whether somebody is watching, so that previews are worth making. May change at any time."""
        return self._run.previews

    @previews.setter
    def previews(self, wanted: bool) -> None:
        self._run.previews = wanted

    def service(self, kind: type[T]) -> T:
        """What the host offers under this type, such as the model library. KeyError names what is missing."""
        found: T = self.services[kind]
        return found

    def progress(self, value: float, maximum: float, preview: tuple[str, bytes] | None = None) -> None:
        """Tells how far the node is, and stops here if the run was interrupted. `preview` = (image type, bytes)."""
        self.check()
        if self.on_step is not None:
            self.on_step(value, maximum, preview)
            return
        if preview is not None:
            self.on_event(PreviewReady(node=self.node, image_type=preview[0], data=preview[1]))
        self.on_event(StepDone(node=self.node, value=value, maximum=maximum))

    def warn(self, text: str) -> None:
        if self.on_warning is not None:
            self.on_warning(text)
        else:
            self.on_event(Warned(node=self.node, text=text))

    def show_text(self, text: str) -> None:
        """Shows a line at the node."""
        self.on_event(TextShown(node=self.node, text=text))

    def send(self, event: str, data: dict[str, Any], *, everyone: bool = False) -> None:
        """Tells the node pack's part in the browser: the one that queued this run, or all of the tenant's."""
        self.on_event(PackEvent(name=event, data=data, everyone=everyone))


@dataclass(slots=True)
class GraphPrefix:
    """What the ids of the nodes begin with that a call makes: its node, its number, and a graph that counts up."""

    root: str
    call: int
    graph: int = 0


@dataclass(slots=True)
class _Watched:
    previews: bool


_current: ContextVar[RunContext] = ContextVar("limner_run")


def current() -> RunContext:
    """The context of the node call that this code is part of. Raises NoRun outside of one."""
    found = _current.get(None)
    if found is None:
        raise NoRun("no node is running here: this can be asked only from inside a node's call")
    return found


def current_or_none() -> RunContext | None:
    return _current.get(None)


@contextmanager
def calling(ctx: RunContext) -> Iterator[None]:
    """Makes this the current context; tasks that are made meanwhile keep it."""
    token = _current.set(ctx)
    try:
        yield
    finally:
        _current.reset(token)
