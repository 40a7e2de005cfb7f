"""RunContext: all that a node may ask of the outside."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from limner.engine.events import NodeRef

T = TypeVar("T")


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


@dataclass(slots=True, kw_only=True)
class RunContext:
    """Handed to every node that asks for it by a parameter named `ctx`.

    One object serves the nodes of a run, one after the other: `node` is the one that runs now, and `previews` may
    change at any time.
    """

    prompt_id: str
    tenant: str
    node: NodeRef
    prompt: dict[str, Any]
    extra_pnginfo: dict[str, Any] | None
    files: Files
    services: Mapping[type, Any] = field(default_factory=dict)
    previews: bool = False  # somebody is watching: previews are worth making
    on_step: Callable[[float, float, tuple[str, bytes] | None], None] = lambda *_: None
    on_warning: Callable[[str], None] = lambda _: None
    check: Callable[[], None] = lambda: None  # raises Interrupted once the run was asked to stop

    def service(self, kind: type[T]) -> T:
        """What the host offers under this type, such as the model library. KeyError names what is missing."""
        found: T = self.services[kind]
        return found

    def progress(self, value: float, maximum: float, preview: tuple[str, bytes] | None = None) -> None:
        """Tells how far the node is, and stops here if the run was interrupted. `preview` = (image type, bytes)."""
        self.check()
        self.on_step(value, maximum, preview)

    def warn(self, text: str) -> None:
        self.on_warning(text)
