"""What JetStream is to hold for Limner, in the server's own words, made when it is needed.

docs/dispatch.md tells why each setting is what it is. JetStream's API is spoken directly (JSON over requests): it is
small, and the settings then stand here as the server has them.
"""

from __future__ import annotations

from typing import Any

from limner.bus import subjects
from limner.bus.jetstream.requests import Refused, Requests
from limner.errors import Unavailable

SECOND = 10**9  # JetStream counts in nanoseconds
ACK_WAIT_SECONDS = 15
WORKER_SECONDS = 15

OTHER_SETTINGS = 10058


def jobs_stream(pool: str, replicas: int) -> dict[str, Any]:
    """One token per job, also after a restart: a subject holds one message, and refuses another while it is there."""
    return {
        "name": subjects.stream(pool),
        "subjects": [subjects.jobs_of(pool)],
        "retention": "workqueue",
        "storage": "file",
        "discard": "new",
        "max_msgs": 100_000,
        "max_msgs_per_subject": 1,
        "discard_new_per_subject": True,
        "duplicate_window": 120 * SECOND,
        "allow_direct": True,
        "num_replicas": replicas,
    }


def lane_consumer(pool: str, lane: str) -> dict[str, Any]:
    """Attempts are counted by the claim, so deliveries are not limited: a dead message would stay for ever."""
    return {
        "durable_name": lane,
        "name": lane,
        "filter_subject": subjects.jobs_of(pool, lane),
        "ack_policy": "explicit",
        "ack_wait": ACK_WAIT_SECONDS * SECOND,
        "max_deliver": -1,
        "max_ack_pending": 10_000,
        "inactive_threshold": 3600 * SECOND,
    }


def workers_stream(replicas: int) -> dict[str, Any]:
    """The key-value bucket of live workers: the last heartbeat of each, for 15 s."""
    return {
        "name": f"KV_{subjects.WORKERS_BUCKET}",
        "subjects": [f"$KV.{subjects.WORKERS_BUCKET}.>"],
        "retention": "limits",
        "storage": "memory",
        "discard": "new",
        "max_msgs_per_subject": 1,
        "max_age": WORKER_SECONDS * SECOND,
        "duplicate_window": WORKER_SECONDS * SECOND,
        "allow_rollup_hdrs": True,
        "deny_delete": True,
        "allow_direct": True,
        "num_replicas": replicas,
    }


class Layout:
    """Makes streams and lanes, and remembers which are there until the server may have lost its store."""

    def __init__(self, requests: Requests, replicas: int) -> None:
        self._requests = requests
        self._replicas = replicas
        self._doubts = 0
        self._streams: set[str] = set()
        self._lanes: set[tuple[str, str]] = set()

    async def ensure_jobs(self, pool: str) -> None:
        await self._ensure_stream(jobs_stream(pool, self._replicas))

    async def ensure_workers(self) -> None:
        await self._ensure_stream(workers_stream(self._replicas))

    async def ensure_lane(self, pool: str, lane: str, *, surely: bool = False) -> None:
        """surely: asks the server even where the lane was made before, as it goes by itself after an idle hour."""
        await self.ensure_jobs(pool)
        if (pool, lane) in self._lanes and not surely:
            return
        stream, config = subjects.stream(pool), lane_consumer(pool, lane)
        subject = f"CONSUMER.CREATE.{stream}.{lane}.{config['filter_subject']}"
        try:
            await self._requests.api(subject, {"stream_name": stream, "config": config})
        except Refused as error:
            self.forget()
            raise Unavailable(f"JetStream did not make lane {lane}: {error}") from error
        self._lanes.add((pool, lane))

    def forget(self) -> None:
        """What was there may be no more: all of it is made again when it is needed."""
        self._streams.clear()
        self._lanes.clear()

    async def _ensure_stream(self, config: dict[str, Any]) -> None:
        if self._doubts != self._requests.doubts:
            self._doubts = self._requests.doubts
            self.forget()
        name = config["name"]
        if name in self._streams:
            return
        try:
            try:
                await self._requests.api(f"STREAM.CREATE.{name}", config)
            except Refused as error:
                if error.code != OTHER_SETTINGS:
                    raise
                await self._requests.api(f"STREAM.UPDATE.{name}", config)
        except Refused as error:
            raise Unavailable(f"JetStream did not make the stream {name}: {error}") from error
        self._streams.add(name)
