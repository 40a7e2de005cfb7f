"""What waits to be sent to one socket: bounded, so that a slow reader costs only itself."""

from __future__ import annotations

import asyncio
from collections import deque

from limner.comfy.dialect.frames import Frame

PICTURES = 2
THIN_FROM = 512
FRAMES = 4096
BYTES = 64 * 1024 * 1024


class Outbox:
    """Of waiting pictures only the newest stay; when many frames wait, snapshots that a later one outdates go too.

    `hopeless`: it still grew over its bounds, and the socket had better be closed.
    """

    def __init__(self) -> None:
        self.hopeless = False
        self._waiting: deque[Frame] = deque()
        self._filled = asyncio.Event()
        self._bytes = 0
        self._pictures = 0
        self._thin_at = THIN_FROM

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, frame: Frame) -> bool:
        """Never waits. False, once, when this frame made it hopeless; after that nothing more is taken."""
        if self.hopeless:
            return True
        self._add(frame)
        if self._pictures > PICTURES:
            self._drop_oldest_picture()
        if len(self._waiting) >= self._thin_at:
            self._thin()
        self.hopeless = len(self._waiting) > FRAMES or self._bytes > BYTES
        self._filled.set()
        return not self.hopeless

    async def get(self) -> Frame:
        """The next frame, as soon as there is one."""
        while not self._waiting:
            self._filled.clear()
            await self._filled.wait()
        frame = self._waiting.popleft()
        self._bytes -= len(frame.data)
        self._pictures -= _is_picture(frame)
        return frame

    def _add(self, frame: Frame) -> None:
        self._waiting.append(frame)
        self._bytes += len(frame.data)
        self._pictures += _is_picture(frame)

    def _drop_oldest_picture(self) -> None:
        oldest = next(frame for frame in self._waiting if _is_picture(frame))
        self._keep([frame for frame in self._waiting if frame is not oldest])

    def _thin(self) -> None:
        """Keeps the last snapshot of each kind, and all that is no snapshot."""
        seen: set[str] = set()
        kept: list[Frame] = []
        for frame in reversed(self._waiting):
            if frame.snapshot not in seen:
                kept.append(frame)
            if frame.snapshot:
                seen.add(frame.snapshot)
        self._keep(kept[::-1])
        self._thin_at = max(THIN_FROM, 2 * len(kept))

    def _keep(self, frames: list[Frame]) -> None:
        self._waiting.clear()
        self._bytes = self._pictures = 0
        for frame in frames:
            self._add(frame)


def _is_picture(frame: Frame) -> bool:
    """Only previews come in two forms; words at a node are binary as well, and none may be lost for another."""
    return frame.metadata is not None
