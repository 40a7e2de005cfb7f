"""A whole gateway without processes: real services over SQLite, the bus and the store in memory, a scripted worker."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import uvicorn
import websockets
from fastapi import FastAPI

from limner.blobs.memory import MemoryStore
from limner.bus import subjects
from limner.bus.memory import MemoryBus
from limner.bus.messages import Claim, Claimed, Done, Live, encode_preview
from limner.comfy.dialect.ordering import Arrival
from limner.db.session import Database
from limner.gateway.app import create_app
from limner.gateway.deps import Services
from limner.services.attempts import Attempts
from limner.services.catalogues import Catalogues
from limner.services.files import FileStore
from limner.services.jobs import Jobs
from limner.services.presence import Presence
from limner.services.release import Release

POOL = "default"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    db: Database
    services: Services
    attempts: Attempts
    app: FastAPI
    http: httpx.AsyncClient

    async def post(self, workflow: dict[str, Any], **members: Any) -> str:
        """Queues a workflow; gives its prompt id."""
        answer = await self.http.post("/prompt", json={"prompt": workflow, **members})
        assert answer.status_code == 200, answer.text
        return str(answer.json()["prompt_id"])

    async def claim(self) -> tuple[str, Claimed]:
        """Takes the next job as a worker does."""
        async with asyncio.timeout(10):
            while (delivery := await self.services.bus.pull(POOL, ["any"])) is None:
                await self.services.bus.wait_wake(POOL, 1.0)
        token = delivery.token
        claimed = await self.attempts.claim(Claim(id=token.id, epoch=token.epoch, worker="w", delivery=delivery.id))
        await delivery.ack()
        assert claimed.ok, claimed.reason
        return token.id, claimed

    async def run(
        self, arrivals: Iterable[Arrival] = (), *, outputs: dict[str, Any] | None = None, mute: Sequence[int] = ()
    ) -> str:
        """Claims the next job and tells these events of it; `mute`: numbers of those that are lost on the way."""
        job, claimed = await self.claim()
        told = [each for each in arrivals if each.live.kind != "Ended"]
        for each in told:
            if each.live.seq not in mute:
                await self.tell(job, claimed, each)
        messages = [*_messages(told), ["execution_success", {"prompt_id": claimed.prompt_id, "timestamp": 1}]]
        await self.done(job, claimed, outcome="succeeded", messages=messages, outputs=outputs or {}, last_seq=len(told))
        return claimed.prompt_id

    async def tell(self, job: str, claimed: Claimed, arrival: Arrival) -> None:
        """Publishes one event as a worker does."""
        live = Live(
            job=job,
            prompt_id=claimed.prompt_id,
            client_id=claimed.client_id,
            attempt=claimed.attempt,
            seq=arrival.live.seq,
            kind=arrival.live.kind,
            data=arrival.live.data,
        )
        if live.kind == "PreviewReady":
            body = encode_preview(live, arrival.picture)
            await self.services.bus.publish(subjects.previews(claimed.tenant, job), body)
        else:
            await self.services.bus.publish(subjects.events(claimed.tenant, job), live.encode())

    async def done(self, job: str, claimed: Claimed, **members: Any) -> None:
        settled = await self.attempts.done(Done(id=job, token=claimed.token, **members))
        assert settled.ok, settled.reason


def _messages(told: Sequence[Arrival]) -> list[list[Any]]:
    names = {"RunStarted": "execution_start", "NodesCached": "execution_cached"}
    return [
        [names[each.live.kind], {"prompt_id": each.live.prompt_id, "timestamp": 1}]
        for each in told
        if each.live.kind in names
    ]


@asynccontextmanager
async def stack(folder: Path, **settings: Any) -> AsyncIterator[Stack]:
    db = await Database.open(f"sqlite:///{folder / 'limner.db'}")
    bus, blobs, presence = MemoryBus(), MemoryStore(), Presence()
    release = Release(db, bus)
    services = Services(
        jobs=Jobs(db, bus, release),
        files=FileStore(db, blobs),
        catalogues=Catalogues(db, bus, blobs),
        presence=presence,
        bus=bus,
        blobs=blobs,
        **settings,
    )
    app = create_app(services)
    transport = httpx.ASGITransport(app)
    try:
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8188") as http:
            attempts = Attempts(db, bus, release, presence)
            yield Stack(db=db, services=services, attempts=attempts, app=app, http=http)
    finally:
        await release.stop()
        await bus.close()
        await db.close()


@asynccontextmanager
async def listening(app: FastAPI) -> AsyncIterator[str]:
    """The app behind a real server on a free port of this machine; gives `127.0.0.1:PORT`."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        config = uvicorn.Config(app, log_config=None, access_log=False, ws_per_message_deflate=False)
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server.serve(sockets=[bound]))
        try:
            async with asyncio.timeout(10):
                while not server.started:
                    await asyncio.sleep(0.01)
            yield f"127.0.0.1:{bound.getsockname()[1]}"
        finally:
            server.should_exit = True
            await serving


class Client:
    """One WebSocket client."""

    def __init__(self, connection: websockets.ClientConnection) -> None:
        self.connection = connection

    async def next(self) -> dict[str, Any]:
        """The next frame: a text frame's JSON, or {"binary": bytes}."""
        async with asyncio.timeout(10):
            frame = await self.connection.recv()
        return {"binary": frame} if isinstance(frame, bytes) else json.loads(frame)

    async def take(self, count: int) -> list[dict[str, Any]]:
        return [await self.next() for _ in range(count)]

    async def until_end(self) -> list[dict[str, Any]]:
        """All frames up to `executing` nothing."""
        frames = [await self.next()]
        while frames[-1].get("type") != "executing" or frames[-1]["data"]["node"] is not None:
            frames.append(await self.next())
        return frames


@asynccontextmanager
async def client(address: str, query: str, *, first: dict[str, Any] | None = None) -> AsyncIterator[Client]:
    async with websockets.connect(f"ws://{address}/ws?{query}", max_size=None) as connection:
        if first is not None:
            await connection.send(json.dumps(first))
        yield Client(connection)


def picture_workflow(value: int = 0) -> dict[str, Any]:
    """EmptyImage to PreviewImage."""
    size = {"width": 8, "height": 8, "batch_size": 1, "color": value}
    return {
        "1": {"class_type": "EmptyImage", "inputs": size},
        "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
    }


def load_workflow(name: str, node_id: str = "1") -> dict[str, Any]:
    """LoadImage of this file to PreviewImage."""
    return {
        node_id: {"class_type": "LoadImage", "inputs": {"image": name}},
        f"{node_id} shown": {"class_type": "PreviewImage", "inputs": {"images": [node_id, 0]}},
    }
