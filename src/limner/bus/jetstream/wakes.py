"""Wakes: hints that there is a token. They may be lost, so nobody waits for one alone."""

from __future__ import annotations

import asyncio


class Wake:
    """The last wake of a pool that nobody has taken yet."""

    def __init__(self) -> None:
        self._came = asyncio.Event()
        self._lane = ""

    def come(self, lane: str) -> None:
        self._lane = lane
        self._came.set()

    async def next(self) -> str:
        """Its lane."""
        await self._came.wait()
        self._came.clear()
        return self._lane
