"""Node functions called by the node's name, as tests do it that need no engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from limner.nodes import library
from tests.unit.nodes.contexts import result_of, run_in

NODES = library.load()


def values(name: str, folder: Path = Path(), **inputs: Any) -> tuple[Any, ...]:
    """All outputs of a node."""
    return result_of(NODES[name], inputs, run_in(folder).ctx).values


def value(name: str, folder: Path = Path(), **inputs: Any) -> Any:
    """The first output of a node."""
    return values(name, folder, **inputs)[0]
