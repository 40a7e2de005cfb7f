"""ComfyUI's WebSocket: who is connected, and what each of them is sent."""

from __future__ import annotations

import asyncio
import contextlib
import json
import uuid
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from limner import logs
from limner.bus.port import Bus
from limner.comfy.dialect import frames
from limner.comfy.dialect.answers import error_answer
from limner.comfy.dialect.feed import Feed
from limner.comfy.dialect.frames import Frame
from limner.comfy.dialect.outbox import Outbox
from limner.errors import Unavailable
from limner.services.jobs import Jobs
from limner.services.presence import Presence

TRY_AGAIN_LATER = 1013

log = logs.get("limner.socket")


class Socket:
    """One open connection. `sid` is the client id that its prompts carry."""

    def __init__(self, websocket: WebSocket, tenant: str, sid: str) -> None:
        self.tenant = tenant
        self.sid = sid
        self.metadata = False
        self.outbox = Outbox()
        self._websocket = websocket
        self._tasks: set[asyncio.Task[None]] = set()

    def put(self, frame: Frame) -> None:
        """Queues a frame if it is meant for sockets like this one; a socket that cannot keep up is dropped."""
        if frame.metadata is not None and frame.metadata != self.metadata:
            return
        if not self.outbox.put(frame):
            log.warning("closed a socket that does not read", sid=self.sid, waiting=len(self.outbox))
            self.stop()

    def stop(self) -> None:
        for task in self._tasks:
            task.cancel()

    async def run(self, features: dict[str, Any]) -> None:
        """Sends and receives until one of the two ends."""
        self._tasks = {asyncio.create_task(self._send()), asyncio.create_task(self._receive(features))}
        try:
            await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.stop()
            for ended in await asyncio.gather(*self._tasks, return_exceptions=True):
                if isinstance(ended, Exception):
                    log.error("a socket broke", sid=self.sid, exc_info=ended)
            await self._close()

    async def _send(self) -> None:
        with contextlib.suppress(WebSocketDisconnect, RuntimeError):  # both mean that the peer has gone
            while True:
                data = (await self.outbox.get()).data
                await (self._websocket.send_text(data) if isinstance(data, str) else self._websocket.send_bytes(data))

    async def _receive(self, features: dict[str, Any]) -> None:
        """ComfyUI reads one thing only: feature flags, in the first text that is JSON. What comes after is dropped."""
        listening = True
        while (message := await self._websocket.receive())["type"] != "websocket.disconnect":
            told = _json(message.get("text")) if listening else None
            if told is None:
                continue
            listening = False
            if told.get("type") == "feature_flags" and isinstance(told.get("data"), dict):
                self.metadata = told["data"].get("supports_preview_metadata") is True
                self.outbox.put(Frame(data=frames.text("feature_flags", features)))

    async def _close(self) -> None:
        """Says goodbye where there is somebody to hear it, but does not wait for a peer that does not read."""
        if self._websocket.client_state is self._websocket.application_state is WebSocketState.CONNECTED:
            with contextlib.suppress(WebSocketDisconnect, RuntimeError, TimeoutError):
                await asyncio.wait_for(self._websocket.close(TRY_AGAIN_LATER), 1.0)


class Sockets:
    """All open sockets of this gateway, by tenant and client id, and the feeds behind them."""

    def __init__(self, *, bus: Bus, jobs: Jobs, presence: Presence, features: dict[str, Any]) -> None:
        self._bus = bus
        self._jobs = jobs
        self._presence = presence
        self._features = features
        self._open: dict[str, dict[str, Socket]] = {}
        self._feeds: dict[str, asyncio.Task[Feed]] = {}

    async def start(self, tenant: str) -> None:
        """Listens for a tenant from now on, so that a client that comes in the middle of a run learns what runs."""
        try:
            await self._feed(tenant)
        except Unavailable as error:  # the first socket tries again, and is told
            log.warning("live events cannot be heard yet", tenant=tenant, error=error.message)

    async def serve(self, tenant: str, websocket: WebSocket) -> None:
        """One connection, from its opening to its end. The same client id again takes over from an older socket."""
        socket = Socket(websocket, tenant, websocket.query_params.get("clientId") or uuid.uuid4().hex)
        self._presence.came(tenant, socket.sid)
        try:
            try:
                await self._welcome(socket)
            except Unavailable as error:
                await websocket.send_denial_response(error_answer(error))
                return
            await websocket.accept()
            await socket.run(self._features)
        finally:
            self._presence.left(tenant, socket.sid)
            self._remove(socket)

    async def _welcome(self, socket: Socket) -> None:
        """First of all it is told how things stand, then all that comes."""
        feed = await self._feed(socket.tenant)
        await self._jobs.watch(socket.tenant, socket.sid)
        remaining = await self._jobs.remaining(socket.tenant)
        socket.put(Frame(data=frames.status(remaining, socket.sid)))
        node = feed.running_node(socket.sid)
        if node is not None:
            socket.put(Frame(data=frames.text("executing", {"node": node})))
        self._open.setdefault(socket.tenant, {})[socket.sid] = socket

    async def close(self) -> None:
        """Ends all sockets and feeds."""
        for socket in [socket for sockets in self._open.values() for socket in sockets.values()]:
            socket.stop()
        started = await asyncio.gather(*self._feeds.values(), return_exceptions=True)
        self._feeds.clear()
        for feed in started:
            if isinstance(feed, Feed):  # one that could not start has nothing to stop
                await feed.stop()

    def _deliver(self, tenant: str, frame: Frame) -> None:
        sockets = self._open.get(tenant, {})
        if frame.client is None:
            for socket in list(sockets.values()):
                socket.put(frame)
        elif frame.client in sockets:
            sockets[frame.client].put(frame)

    def _remove(self, socket: Socket) -> None:
        """Forgets a socket, unless a newer one has taken its place."""
        sockets = self._open.get(socket.tenant, {})
        if sockets.get(socket.sid) is socket:
            del sockets[socket.sid]

    async def _feed(self, tenant: str) -> Feed:
        """The tenant's feed, started if it is not there. Two sockets that open at once share the start."""
        if tenant not in self._feeds:
            self._feeds[tenant] = asyncio.create_task(self._start_feed(tenant))
        return await asyncio.shield(self._feeds[tenant])

    async def _start_feed(self, tenant: str) -> Feed:
        feed = Feed(tenant, lambda frame: self._deliver(tenant, frame))
        try:
            await feed.start(self._bus)
        except BaseException:
            del self._feeds[tenant]
            raise
        return feed


def _json(text: str | None) -> dict[str, Any] | None:
    """A text as a JSON object; None for anything else."""
    try:
        told = json.loads(text or "")
    except (ValueError, RecursionError):
        return None
    return told if isinstance(told, dict) else {}
