"""Ends background tasks for certain."""

from __future__ import annotations

import asyncio
from collections.abc import Collection


async def end(tasks: Collection[asyncio.Task[None]]) -> None:
    """Cancels until it takes: Python 3.11's `wait_for` swallows a cancel that meets its result."""
    while pending := [task for task in tasks if not task.done()]:
        for task in pending:
            task.cancel()
        await asyncio.wait(pending, timeout=0.1)
