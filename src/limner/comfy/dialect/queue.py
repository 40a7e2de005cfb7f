"""/queue, /history, /interrupt and /free."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from limner.comfy.dialect.answers import JSON_TYPE, empty, encode, json_answer
from limner.comfy.dialect.bodies import an_object, json_object, kind, parse, read_body
from limner.comfy.dialect.context import Dialect
from limner.comfy.dialect.shapes import history_entry, queue_item
from limner.errors import Invalid, MalformedJson
from limner.jobs.model import Job
from limner.services.jobs import QueueView

AT_ONCE = 100
"""Up to so many jobs are one answer; more are sent piece by piece, so that other callers are served in between."""


class Queue:
    def __init__(self, dialect: Dialect) -> None:
        self._jobs = dialect.jobs
        self._tenant = dialect.tenant

    async def show(self, _request: Request) -> Response:
        view = await self._jobs.queue(self._tenant)
        if len(view.pending) > AT_ONCE:
            return StreamingResponse(_queue_pieces(view), headers={"content-type": JSON_TYPE})
        shown = {"queue_running": view.running, "queue_pending": view.pending}
        return json_answer({name: [queue_item(job) for job in jobs] for name, jobs in shown.items()})

    async def change(self, request: Request) -> Response:
        """Takes waiting jobs out: all of them, or some by id. Unknown ids and running jobs are passed over."""
        clear, ids = _clear_and_delete(await json_object(request))
        if clear:
            await self._jobs.cancel_waiting(self._tenant, None)
        if ids:
            await self._jobs.cancel_waiting(self._tenant, ids)
        return empty()

    async def history(self, request: Request) -> Response:
        max_items, offset = (_integer(request, name) for name in ("max_items", "offset"))
        jobs = await self._jobs.history(self._tenant, max_items=max_items, offset=offset)
        if len(jobs) <= AT_ONCE:
            return json_answer({job.prompt_id: history_entry(job) for job in jobs})
        return StreamingResponse(_history_pieces(jobs), headers={"content-type": JSON_TYPE})

    async def history_of_one(self, request: Request) -> Response:
        """The job's entry under its id; an empty object for one that is unknown, waiting or running."""
        job = await self._jobs.history_entry(self._tenant, request.path_params["prompt_id"])
        return json_answer({} if job is None else {job.prompt_id: history_entry(job)})

    async def forget(self, request: Request) -> Response:
        """Takes jobs out of the history. Their files stay."""
        clear, ids = _clear_and_delete(await json_object(request))
        if clear:
            await self._jobs.hide(self._tenant, None)
        if ids:
            await self._jobs.hide(self._tenant, ids)
        return empty()

    async def interrupt(self, request: Request) -> Response:
        """Stops the caller's running jobs, or the one that is named. A body that is no JSON counts as none."""
        try:
            told = parse(await read_body(request))
        except MalformedJson:
            told = {}
        prompt_id = an_object(told).get("prompt_id")
        await self._jobs.interrupt(self._tenant, None if prompt_id is None else str(prompt_id))
        return empty()

    async def free(self, request: Request) -> Response:
        """Asks all workers to let go of models and cached results as soon as they are between jobs."""
        told = await json_object(request)
        flags = {name: bool(told.get(name)) for name in ("unload_models", "free_memory")}
        if any(flags.values()):
            await self._jobs.free(**flags)
        return empty()


def _clear_and_delete(body: dict[str, Any]) -> tuple[bool, list[str]]:
    ids = body.get("delete")
    if ids is None:
        ids = []
    if not isinstance(ids, list):
        raise Invalid(f"delete must be a list of prompt ids, not {kind(ids)}")
    return bool(body.get("clear")), [str(each) for each in ids]


def _integer(request: Request, name: str) -> int | None:
    text = request.query_params.get(name)
    if text is None:
        return None
    try:
        return max(-(2**31), min(int(text), 2**31))
    except ValueError:
        raise Invalid(f"{name} must be a whole number, not {text[:40]!r}") from None


async def _history_pieces(jobs: Sequence[Job]) -> AsyncIterator[bytes]:
    yield b"{"
    async for piece in _joined(jobs, lambda job: encode(job.prompt_id) + b":" + encode(history_entry(job))):
        yield piece
    yield b"}"


async def _queue_pieces(view: QueueView) -> AsyncIterator[bytes]:
    yield b'{"queue_running":' + encode([queue_item(job) for job in view.running]) + b',"queue_pending":['
    async for piece in _joined(view.pending, lambda job: encode(queue_item(job))):
        yield piece
    yield b"]}"


async def _joined(jobs: Sequence[Job], encoded: Callable[[Job], bytes]) -> AsyncIterator[bytes]:
    """The jobs with commas between them, some at a time; others get their turn after each piece."""
    for first in range(0, len(jobs), AT_ONCE):
        yield (b"," if first else b"") + b",".join(map(encoded, jobs[first : first + AT_ONCE]))
        await asyncio.sleep(0)
