"""What callers do with jobs: submit, look, cancel, interrupt, forget. One method, one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from limner.bus.port import Bus
from limner.db.session import Database
from limner.jobs.model import InputFile, Job
from limner.services.release import Release


@dataclass(frozen=True, slots=True, kw_only=True)
class Submitted:
    job: Job
    queue_remaining: int


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueView:
    """`pending` is in the order in which the jobs will start."""

    running: list[Job]
    pending: list[Job]


class Jobs:
    def __init__(self, db: Database, bus: Bus, release: Release) -> None: ...

    async def submit(
        self,
        *,
        tenant: str,
        workflow: dict[str, Any],
        outputs: Sequence[str],
        number: float | None = None,
        front: bool = False,
        prompt_id: str | None = None,
        client_id: str | None = None,
        extra_data: dict[str, Any],
        inputs: Sequence[InputFile] = (),
        models: Sequence[str] = (),
        priority: int = 0,
    ) -> Submitted: ...

    async def remaining(self, tenant: str) -> int: ...

    async def queue(self, tenant: str) -> QueueView: ...

    async def cancel_waiting(self, tenant: str, prompt_ids: Sequence[str] | None) -> int: ...

    async def interrupt(self, tenant: str, prompt_id: str | None) -> int: ...

    async def history(self, tenant: str, *, max_items: int | None = None, offset: int | None = None) -> list[Job]: ...

    async def history_entry(self, tenant: str, prompt_id: str) -> Job | None: ...

    async def hide(self, tenant: str, prompt_ids: Sequence[str] | None) -> int: ...

    async def free(self, *, unload_models: bool, free_memory: bool) -> None: ...
