"""Who hears what: the open sockets by client id, as the recorded server kept them, its faults included."""

from __future__ import annotations

import asyncio
import contextlib
import json
import uuid
from dataclasses import dataclass, field
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from tests.support.replayer.script import Event, Frame, Text


@dataclass(eq=False, slots=True)
class Socket:
    ws: WebSocket
    wants_metadata: bool = False
    outbox: asyncio.Queue[str | bytes] = field(default_factory=asyncio.Queue)

    def send(self, frame: Frame) -> None:
        if isinstance(frame, Event):
            self.outbox.put_nowait(json.dumps({"type": frame.type, "data": frame.data}))
        elif isinstance(frame, Text):
            self.outbox.put_nowait(frame.encode())
        else:
            self.outbox.put_nowait(frame.with_metadata() if self.wants_metadata else frame.plain())

    async def write(self) -> None:
        while True:
            message = await self.outbox.get()
            if isinstance(message, str):
                await self.ws.send_text(message)
            else:
                await self.ws.send_bytes(message)


class Sockets:
    """`features`: what an asker of feature_flags is told; None: this version knows of none.

    `opened`: the client id of every socket that was ever opened.
    """

    def __init__(self, features: dict[str, Any] | None) -> None:
        self._features = features
        self._by_client: dict[str, Socket] = {}
        self.opened: list[str] = []

    @property
    def clients(self) -> list[str]:
        """The client ids that hear events now."""
        return list(self._by_client)

    async def serve(self, ws: WebSocket, greeting: list[Event]) -> None:
        """Speaks with one socket until it closes. `greeting`: what it is told first; the first gets its id put in."""
        client = ws.query_params.get("clientId") or uuid.uuid4().hex
        socket = Socket(ws)
        await ws.accept()
        self.opened.append(client)
        self._by_client[client] = socket  # an older socket of this id hears nothing more
        greeting[0].data["sid"] = client
        for event in greeting:
            socket.send(event)
        writing = asyncio.create_task(socket.write())
        try:
            await self._read(socket)
        except (WebSocketDisconnect, RuntimeError):
            pass
        finally:
            self._by_client.pop(client, None)  # WIRE 7.3: whoever has that id now is unregistered too
            writing.cancel()
            with contextlib.suppress(asyncio.CancelledError, WebSocketDisconnect, RuntimeError, OSError):
                await writing

    async def _read(self, socket: Socket) -> None:
        first = True
        while True:
            message = await socket.ws.receive_json()
            if first and message.get("type") == "feature_flags" and self._features is not None:
                socket.wants_metadata = message["data"].get("supports_preview_metadata") is True
                socket.send(Event("feature_flags", self._features))
            first = False

    def send(self, frame: Frame, client: str | None) -> None:
        """To that client; to everybody without one, as the recorded server does where a prompt has no client."""
        for each in list(self._by_client.values()) if client is None else self._of(client):
            each.send(frame)

    def _of(self, client: str) -> list[Socket]:
        return [self._by_client[client]] if client in self._by_client else []

    def forget(self) -> None:
        self._by_client.clear()
