"""The file that a child's output goes to, kept from growing without end."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from pathlib import Path
from typing import BinaryIO

LARGEST_BYTES = 10_000_000
LOOK_SECONDS = 30.0


class LogFile:
    """Appended to by a process. Beyond its size it is copied to `<name>.1`, over the last copy, and emptied.

    The process keeps writing to the same file: it need not know.
    """

    def __init__(self, path: Path, *, largest_bytes: int = LARGEST_BYTES) -> None:
        self.path = path
        self._largest = largest_bytes

    def open(self) -> BinaryIO:
        """For the child's standard output. Makes the folder."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        return self.path.open("ab")

    def turn_over(self) -> None:
        """Empties the file if it is too large. What is written in that very moment can be lost."""
        if self.path.exists() and self.path.stat().st_size > self._largest:
            shutil.copyfile(self.path, self.path.with_name(self.path.name + ".1"))
            with self.path.open("r+b") as file:
                file.truncate(0)

    async def watch(self, every_seconds: float = LOOK_SECONDS) -> None:
        """Looks at the size now and then, until it is canceled."""
        while True:
            with contextlib.suppress(OSError):  # a full disk: nothing is gained by ending here
                await asyncio.to_thread(self.turn_over)
            await asyncio.sleep(every_seconds)
