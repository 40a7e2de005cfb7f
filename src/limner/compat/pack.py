"""A pack of custom nodes as data, and its faults in words."""

from __future__ import annotations

import asyncio
import inspect
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from limner.compat.install import NAMES, told
from limner.graph.kinds import NodeType

PACKAGE = "custom_nodes"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A pack on the disk: a folder, or a single file."""

    name: str
    path: Path

    @property
    def module(self) -> str:
        """Its name as a Python module: a dot in a folder's name would make it two."""
        return f"{PACKAGE}.{self.name.replace('.', '_x_')}"


@dataclass(slots=True, kw_only=True)
class Pack:
    """A pack that was looked at. `fault`: why it is not there. `left_out`: nodes that are not, with the reason."""

    name: str
    path: Path
    kinds: dict[str, NodeType] = field(default_factory=dict)
    fault: str = ""
    left_out: dict[str, str] = field(default_factory=dict)
    web: dict[str, Path] = field(default_factory=dict)  # name under /extensions -> folder
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """What the catalogue tells of it."""
        return {"name": self.name, "nodes": len(self.kinds), "fault": self.fault, "left_out": self.left_out}


def publish(pack: Pack) -> None:
    """Puts a pack's classes where others look for them: they find each other by `nodes.NODE_CLASS_MAPPINGS`."""
    nodes = sys.modules["nodes"]
    for name, kind in pack.kinds.items():
        nodes.NODE_CLASS_MAPPINGS[name] = kind.node_class  # type: ignore[attr-defined]
        if kind.spec.display_name:
            nodes.NODE_DISPLAY_NAME_MAPPINGS[name] = kind.spec.display_name


class NoNodes(ImportError):
    """An imported module has none of the names by which a pack gives its nodes."""


def explain(error: BaseException) -> str:
    """Why an import failed, in one line that names what is missing."""
    text = told(str(error)).strip()
    lacks = re.match(r"cannot import name '(.+?)' from '([\w.]+)'", text)
    if lacks and lacks[2].split(".")[0] in NAMES:
        return f"it needs {lacks[2]}.{lacks[1]}, which Limner does not offer"
    if isinstance(error, ModuleNotFoundError) and error.name:
        if error.name.split(".")[0] in NAMES:
            return f"it needs the module {error.name}, which Limner does not offer"
        return f"the Python package {error.name.split('.')[0]!r} is not installed"
    if isinstance(error, NoNodes):
        return text
    if isinstance(error, SyntaxError):
        return f"SyntaxError: {error.msg} ({Path(error.filename or '?').name}, line {error.lineno})"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def finish(value: Any) -> Any:
    """The value, awaited where it must be: entry points may be async."""
    if not inspect.isawaitable(value):
        return value

    async def wait() -> Any:
        return await value

    return asyncio.run(wait())
