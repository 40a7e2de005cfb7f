"""Answers what node classes say of inputs, for gateways that check a workflow."""

from __future__ import annotations

import asyncio
import contextlib

from limner.bus import subjects
from limner.bus.messages import Check, Checked
from limner.bus.port import Bus
from limner.errors import Unavailable
from limner.worker.engines.port import Engine

PAUSE_SECONDS = 1.0


async def answer_checks(bus: Bus, engine: Engine, pool: str) -> None:
    """Until it is canceled. One worker of the pool answers each question."""

    async def answer(body: bytes) -> Checked:
        return Checked(verdicts=await engine.check(Check.decode(body).questions))

    serving = None
    try:
        while serving is None:
            try:
                serving = await bus.serve(subjects.check(pool), subjects.WORKERS, answer)
            except Unavailable:
                await asyncio.sleep(PAUSE_SECONDS)
        await asyncio.Event().wait()
    finally:
        if serving is not None:
            with contextlib.suppress(Unavailable):
                await serving.stop()
