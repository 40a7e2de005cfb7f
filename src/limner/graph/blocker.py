"""ExecutionBlocker: a value that keeps the nodes behind it from running."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, eq=False)
class ExecutionBlocker:
    """Put in place of an output's value. With a message, that is shown at the first node it blocks."""

    message: str | None = None
