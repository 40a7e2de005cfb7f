"""One tenant's live messages, put in order and turned into frames."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from limner.bus import subjects
from limner.bus.messages import Live, decode_preview
from limner.bus.port import Bus, Subscription
from limner.comfy.dialect import frames
from limner.comfy.dialect.frames import Frame
from limner.comfy.dialect.ordering import Arrival, InOrder
from limner.comfy.dialect.socket_events import RunFrames

RUNS = 1000
"""How many runs are followed at once; beyond, the one that began first is forgotten: its end was lost on the way."""


@dataclass(slots=True)
class _Run:
    frames: RunFrames
    attempt: int
    order: InOrder = field(default_factory=InOrder)
    timer: asyncio.TimerHandle | None = None


class Feed:
    """Listens to the bus for a tenant and hands each frame to `deliver`."""

    def __init__(self, tenant: str, deliver: Callable[[Frame], None]) -> None:
        self._tenant = tenant
        self._deliver = deliver
        self._runs: dict[str, _Run] = {}
        self._ended: deque[str] = deque(maxlen=RUNS)  # what comes after a run's end must not open it again
        self._subscriptions: list[Subscription] = []

    async def start(self, bus: Bus) -> None:
        self._subscriptions.append(await bus.subscribe(subjects.events(self._tenant, "*"), self._heard))
        self._subscriptions.append(await bus.subscribe(subjects.previews(self._tenant, "*"), self._seen))

    async def stop(self) -> None:
        while self._subscriptions:
            await self._subscriptions.pop().stop()
        for job in list(self._runs):
            self._forget(job)

    def running_node(self, client: str) -> str | None:
        """The node that runs now for this client, as far as was heard."""
        nodes = [run.frames.node for run in self._runs.values() if run.frames.client == client]
        return next((node for node in nodes if node is not None), None)

    async def _heard(self, _subject: str, body: bytes) -> None:
        live = Live.decode(body)
        if live.kind == "Queue":
            self._deliver(Frame(data=frames.status(live.data["queue_remaining"])))
        else:
            self._take(Arrival(live=live))

    async def _seen(self, _subject: str, body: bytes) -> None:
        live, picture = decode_preview(body)
        self._take(Arrival(live=live, picture=picture))

    def _take(self, arrival: Arrival) -> None:
        live = arrival.live
        run = self._runs.get(live.job)
        if run is None and live.job in self._ended:
            return
        if run is None:
            run = self._runs[live.job] = _Run(RunFrames(live.prompt_id, live.client_id), live.attempt)
            if len(self._runs) > RUNS:
                self._forget(next(iter(self._runs)))
        if live.attempt > run.attempt:
            run.frames, run.attempt = RunFrames(live.prompt_id, live.client_id), live.attempt
        self._pass_on(live.job, run, run.order.push(arrival, asyncio.get_running_loop().time()))

    def _pass_on(self, job: str, run: _Run, arrivals: list[Arrival]) -> None:
        for arrival in arrivals:
            for frame in run.frames.apply(arrival.live, arrival.picture):
                self._deliver(frame)
            if arrival.live.kind == "Ended":
                self._ended.append(job)
                self._forget(job)
                return
        self._set_timer(job, run)

    def _set_timer(self, job: str, run: _Run) -> None:
        if run.timer is not None:
            run.timer.cancel()
            run.timer = None
        if run.order.deadline is not None:
            loop = asyncio.get_running_loop()
            run.timer = loop.call_at(run.order.deadline, lambda: self._pass_on(job, run, run.order.expired()))

    def _forget(self, job: str) -> None:
        run = self._runs.pop(job)
        if run.timer is not None:
            run.timer.cancel()
