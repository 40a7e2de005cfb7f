"""What everybody who listens is told after a commit. Lossy by design: the truth is in SQL."""

from __future__ import annotations

from typing import Any

from limner import logs
from limner.bus import subjects
from limner.bus.messages import Control, Live, Message
from limner.bus.port import Bus
from limner.errors import PayloadTooLarge, Unavailable
from limner.jobs.model import Job

log = logs.get("limner.services.live")

QUEUE = "queue"  # stands where events of a job have its id


class LiveEvents:
    """Never raises and never waits for an answer."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def queue_changed(self, tenant: str, remaining: int) -> None:
        data = {"queue_remaining": remaining}
        event = Live(job="", prompt_id="", client_id=None, attempt=0, seq=0, kind="Queue", data=data)
        await self._send(subjects.events(tenant, QUEUE), event)

    async def ended(self, job: Job, remaining: int, last_seq: int) -> None:
        data: dict[str, Any] = {
            "state": job.state.value,
            "queue_remaining": remaining,
            "last_seq": last_seq,
            "messages": [list(message) for message in job.messages],
            "error": job.error,
        }
        event = Live(
            job=job.id,
            prompt_id=job.prompt_id,
            client_id=job.client_id,
            attempt=job.attempts,
            seq=last_seq + 1,
            kind="Ended",
            data=data,
        )
        await self._send(subjects.events(job.tenant, job.id), event)

    async def interrupt(self, worker: str, job_id: str, token: str) -> None:
        await self._send(subjects.control(worker), Control(kind="interrupt", id=job_id, token=token))

    async def watch(self, worker: str, job_id: str, token: str) -> None:
        await self._send(subjects.control(worker), Control(kind="watch", id=job_id, token=token))

    async def free(self, worker: str, *, unload_models: bool, free_memory: bool) -> None:
        message = Control(kind="free", unload_models=unload_models, free_memory=free_memory)
        await self._send(subjects.control(worker), message)

    async def _send(self, subject: str, message: Message) -> None:
        try:
            await self._bus.publish(subject, message.encode())
        except (Unavailable, PayloadTooLarge) as error:
            log.warning("a live event was lost", subject=subject, error=error.message)
