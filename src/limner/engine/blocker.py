"""ExecutionBlocker for nodes and node packs, and how the engine finds one among a call's inputs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from limner.graph.blocker import ExecutionBlocker as ExecutionBlocker


def first_blocker(values: Iterable[Any]) -> ExecutionBlocker | None:
    for value in values:
        if isinstance(value, ExecutionBlocker):
            return value
    return None
