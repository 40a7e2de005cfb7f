"""What the stand-in modules stand on in this process: folders, Limner's nodes and models, and the run that goes on."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from limner.engine import context
from limner.engine.context import NoRun, RunContext
from limner.errors import Misconfigured
from limner.graph.kinds import NodeType
from limner.models.files import ModelFolders

RUN_FOLDERS = ("input", "output", "temp")
LASTING_FOLDERS = ("user", "models", "custom_nodes", "web")


@dataclass(slots=True, kw_only=True)
class Place:
    """`folder`: a real, writable one, in which packs find what they look for beside `folder_paths`.

    `kinds`: Limner's own nodes by class name. `services`: what the host offers nodes, by type. `client` names the
    client of the run that goes on, `ctx` is a context of it for threads that nodes have started.
    """

    folder: Path
    models: ModelFolders
    kinds: Mapping[str, NodeType] = field(default_factory=dict)
    services: Mapping[type, Any] = field(default_factory=dict)
    client: str | None = None
    ctx: RunContext | None = None
    stop: Callable[[], None] | None = None

    def prepare(self) -> None:
        """Makes the folders that packs count on."""
        for name in (*RUN_FOLDERS, *LASTING_FOLDERS):
            (self.folder / name).mkdir(parents=True, exist_ok=True)

    def begin(
        self, ctx: RunContext, inputs: Mapping[str, str], client: str | None, stop: Callable[[], None] | None = None
    ) -> None:
        """A run begins: its folders hold its own input files and nothing of an earlier run. `stop` interrupts it."""
        for name in RUN_FOLDERS:
            _empty(self.folder / name)
        for reference, path in inputs.items():
            _offer(self.folder / "input", reference, Path(path))
        self.ctx, self.client, self.stop = ctx, client, stop

    def end(self) -> None:
        self.ctx, self.client, self.stop = None, None, None

    def running(self) -> RunContext | None:
        """The context of the node that calls; in a thread of its own, that of the run; None between runs."""
        with suppress(NoRun):
            return context.current()
        return self.ctx


_place: Place | None = None


def settle(place: Place) -> None:
    """Makes this the place of the process. Once it is set, packs hold on to its folders."""
    global _place
    _place = place


def here() -> Place:
    """The place of this process. Raises Misconfigured outside of an engine that loads custom nodes."""
    if _place is None:
        raise Misconfigured("the modules for custom nodes are there in an engine process only")
    return _place


def _empty(folder: Path) -> None:
    with suppress(FileNotFoundError):
        for path in folder.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)


def _offer(folder: Path, reference: str, path: Path) -> None:
    """Puts an input file where packs look for it by its name. One of another kind (`a.png [output]`) is not there."""
    target = folder / reference.removesuffix(" [input]")
    if (reference.endswith("]") and not reference.endswith(" [input]")) or not target.resolve().is_relative_to(
        folder.resolve()
    ):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):
        target.symlink_to(path)
