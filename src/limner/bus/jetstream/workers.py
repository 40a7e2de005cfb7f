"""The list of live workers: a key-value bucket with the last heartbeat of each."""

from __future__ import annotations

from limner.bus import subjects
from limner.bus.jetstream.layout import Layout
from limner.bus.jetstream.requests import Refused, Requests
from limner.bus.messages import Heartbeat
from limner.errors import Unavailable

KEYS = f"$KV.{subjects.WORKERS_BUCKET}"


class Workers:
    def __init__(self, requests: Requests, layout: Layout) -> None:
        self._requests = requests
        self._layout = layout

    async def put(self, heartbeat: Heartbeat) -> None:
        await self._put(heartbeat.worker, heartbeat.encode())

    async def drop(self, worker: str) -> None:
        await self._put(worker, b"", headers={"KV-Operation": "DEL"})

    async def all(self) -> list[Heartbeat]:
        """By name."""
        await self._layout.ensure_workers()
        found = await self._requests.messages(f"KV_{subjects.WORKERS_BUCKET}", {"multi_last": [f"{KEYS}.>"]})
        beats = [Heartbeat.decode(message.data) for message in found if message.data]
        return sorted(beats, key=lambda beat: beat.worker)

    async def _put(self, worker: str, body: bytes, *, headers: dict[str, str] | None = None) -> None:
        await self._layout.ensure_workers()
        try:
            await self._requests.stream(f"{KEYS}.{worker}", body, headers=headers)
        except Refused as error:
            raise Unavailable(f"JetStream did not take the heartbeat of {worker}: {error}") from error
