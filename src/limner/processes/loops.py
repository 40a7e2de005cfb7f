"""How a process of its own runs: its event loop, and its exit code."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import TypeVar

from limner.errors import LimnerError, Misconfigured

T = TypeVar("T")


def run_loop(main: Coroutine[None, None, T]) -> T:
    """Runs a process's main coroutine to its end, on uvloop where that is installed."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run(main)
    return uvloop.run(main)


def exit_code(main: Callable[[], int | None], *, name: str) -> int:
    """What `main` gives or 0, or 2 for what must be set otherwise and 1 for other faults, each as one line."""
    try:
        return main() or 0
    except LimnerError as error:
        print(f"limner {name}: {error.message}", file=sys.stderr)  # noqa: T201
        return 2 if isinstance(error, Misconfigured) else 1
