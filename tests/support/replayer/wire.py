"""The line between a client and the replayed server: a port of this machine that can close, freeze and break.

It stays between the two so that faults fall between bytes, as those of a network and of a killed process do.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field

PIECE_BYTES = 65_536


@dataclass(eq=False, slots=True)
class Connection:
    """`path`: that of its first request."""

    near: asyncio.StreamWriter
    far: asyncio.StreamWriter
    path: str = ""
    pumps: list[asyncio.Task[None]] = field(default_factory=list)

    def cut(self) -> None:
        """Both sides find the connection gone, in the middle of whatever they were saying."""
        self.near.transport.abort()
        self.far.transport.abort()
        for pump in self.pumps:
            pump.cancel()


class Wire:
    """Listens on `port`, once open, and passes every byte on to the server behind it."""

    def __init__(self, behind: int) -> None:
        self.port = 0
        self._behind = behind
        self._server: asyncio.Server | None = None
        self._connections: set[Connection] = set()
        self._opening = 0
        self._flowing = asyncio.Event()
        self._flowing.set()

    async def open(self) -> None:
        """Listens, on the same port as before."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Nobody listens any more, and every connection is gone."""
        if self._server is not None:
            self._server.close()
            self._server = None
        while self._connections or self._opening:
            self.cut()  # again and again: one may just have been taken
            await asyncio.sleep(0.001)

    def cut(self, *paths: str) -> None:
        """Breaks the connections whose first request was for a path that begins so; all, without any."""
        for each in self._connections:
            if not paths or each.path.startswith(paths):
                each.cut()

    def freeze(self) -> None:
        """Connections are taken and stay, but no byte passes: a machine that hangs, a network that swallows."""
        self._flowing.clear()

    def thaw(self) -> None:
        self._flowing.set()

    async def _serve(self, reader: asyncio.StreamReader, near: asyncio.StreamWriter) -> None:
        self._opening += 1
        try:
            answers, far = await asyncio.open_connection("127.0.0.1", self._behind)
        except OSError:
            near.transport.abort()
            return
        finally:
            self._opening -= 1
        connection = Connection(near, far)
        self._connections.add(connection)
        there, back = self._pump(reader, far, connection), self._pump(answers, near, connection)
        connection.pumps = [asyncio.create_task(there), asyncio.create_task(back)]
        try:
            await asyncio.wait(connection.pumps, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait(connection.pumps, timeout=1.0)  # the other direction's last bytes
        finally:
            connection.cut()
            self._connections.discard(connection)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: Connection) -> None:
        with contextlib.suppress(OSError):
            while piece := await reader.read(PIECE_BYTES):
                if not connection.path:
                    connection.path = piece.split(b" ", 2)[1].decode(errors="replace")
                await self._flowing.wait()
                writer.write(piece)
                await writer.drain()
            if writer.can_write_eof():
                writer.write_eof()
