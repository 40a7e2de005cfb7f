"""Requests that a worker answers for gateways while it works: what node classes say, and what packs' routes answer."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import secrets

from limner.blobs.keys import answer_key
from limner.blobs.port import BlobStore
from limner.bus import subjects
from limner.bus.messages import Check, Checked, Route, Routed
from limner.bus.port import Bus, Responder
from limner.errors import Unavailable
from limner.worker.engines.port import Engine

PAUSE_SECONDS = 1.0
LARGE_BYTES = 2**20


async def answer_checks(bus: Bus, engine: Engine, pool: str) -> None:
    """Until it is canceled. One worker of the pool answers each question."""

    async def answer(body: bytes) -> Checked:
        return Checked(verdicts=await engine.check(Check.decode(body).questions))

    await _serve(bus, subjects.check(pool), answer)


async def answer_routes(bus: Bus, blobs: BlobStore, engine: Engine, worker: str) -> None:
    """Until it is canceled. The gateway says which worker it means."""

    async def answer(body: bytes) -> Routed:
        request = Route.decode(body)
        told, content = await engine.route(request.asked, base64.b64decode(request.body))
        if len(content) <= LARGE_BYTES:
            return Routed(answer=told, body=base64.b64encode(content).decode())
        key = answer_key(secrets.token_hex(16))
        try:
            await blobs.put(key, content, durable=False)
        except Unavailable as error:
            return Routed(answer={"routed": True, "status": 503, "headers": [], "fault": [error.code, error.message]})
        return Routed(answer=told, key=key)

    await _serve(bus, subjects.route(worker), answer)


async def _serve(bus: Bus, subject: str, answer: Responder) -> None:
    serving = None
    try:
        while serving is None:
            try:
                serving = await bus.serve(subject, subjects.WORKERS, answer)
            except Unavailable:
                await asyncio.sleep(PAUSE_SECONDS)
        await asyncio.Event().wait()
    finally:
        if serving is not None:
            with contextlib.suppress(Unavailable):
                await serving.stop()
