"""Getting a job's prompt onto the instance exactly once: found again where it is there already, else submitted."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import uuid4

from limner import logs
from limner.enginehost.protocol import RunRequest
from limner.worker.engines.comfyui.client import ComfyClient, Refused, Unreachable
from limner.worker.engines.comfyui.history import ending_of
from limner.worker.engines.comfyui.looking import is_of, limit, trouble_of
from limner.worker.engines.comfyui.patience import Patience
from limner.worker.engines.comfyui.queue import Item
from limner.worker.engines.port import EngineLost

log = logs.get("comfyui")

T = TypeVar("T")

TRIES = 3
REMEMBERED = 1000
LISTED_ENTRIES = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """A prompt on the instance. `client_id`: who hears its events. `node_errors`: of outputs that it will not run."""

    prompt_id: str
    client_id: str
    token: str
    node_errors: dict[str, Any]


class Placing:
    """Knows what this worker has put on its instance. One for the worker's whole life.

    Its calls raise EngineLost where the instance is gone, and Refused where it refuses the workflow.
    """

    def __init__(
        self,
        client: ComfyClient,
        worker: str,
        deployment: str,
        patience: Patience,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._worker = worker
        self._deployment = deployment
        self._patience = patience
        self._clock = clock
        self._takes_our_ids = False  # old versions give a prompt an id of their own
        self._submitted: deque[str] = deque(maxlen=REMEMBERED)  # jobs that the history may hold
        self.leftovers: list[Item] = []  # runs of this worker that an earlier supervisor has begun

    async def take_stock(self) -> None:
        """Notes what an earlier supervisor of this worker has left in the queue. Raises as the client does."""
        queue = await self._client.queue()
        self.leftovers = [item for item in queue if self._is_ours(item)]

    async def stop_leftovers(self, but: str = "") -> None:
        """Stops what was left, as nobody takes it up again. This job's own stays, for `find` to take up."""
        others = [item for item in self.leftovers if item.job != but]
        self.leftovers = [item for item in self.leftovers if item.job == but]
        for item in reversed(others):  # what waits first: it would begin as soon as what runs is stopped
            log.warning("a run that an earlier supervisor has begun is stopped", job_id=item.job)
            try:
                await self.stop(item.prompt_id)
            except (Unreachable, Refused) as error:
                log.warning("it could not be stopped", job_id=item.job, error=error.message)

    async def stop(self, prompt_id: str) -> bool:
        """Takes a prompt off the instance. Whether it was gone soon. Raises as the client does."""
        until = self._clock() + self._patience.late
        while self._clock() < until:
            queue = await self._client.queue()
            if queue.runs(prompt_id):
                await self._client.interrupt(prompt_id)
            elif queue.holds(prompt_id):
                await self._client.dequeue(prompt_id)
            else:
                return True
            await asyncio.sleep(self._patience.stop_again)
        return False

    async def find(self, request: RunRequest) -> Placed | None:
        """The prompt of this job, if the instance has it: waiting, running, or ended in a way that counts.

        An ended one counts if it succeeded, or if it is this attempt's own; else it is taken out of the history.
        """
        was_left = any(item.job == request.job for item in self.leftovers)
        if not request.resumed and not was_left and request.job not in self._submitted:
            return None
        found = await self._patiently(lambda: self._find(request))
        self.leftovers = []
        return found

    async def submit(self, request: RunRequest, workflow: dict[str, Any], client_id: str) -> Placed:
        """Submits it, and makes sure that it is there once also where the answer was lost."""
        prompt_id = request.job or uuid4().hex
        mark = {"job": prompt_id, "token": request.token, "worker": self._worker, "deployment": self._deployment}
        extra = {name: value for name, value in request.extra_data.items() if name != "client_id"}
        body = {
            "prompt": workflow,
            "prompt_id": prompt_id,
            "client_id": client_id,
            "extra_data": {**extra, "limner": mark},
        }
        self._submitted.append(prompt_id)
        answer = await self._submit(body, prompt_id, request.token)
        told, errors = answer.get("prompt_id"), answer.get("node_errors")
        self._takes_our_ids = told == prompt_id
        return Placed(
            prompt_id=told if isinstance(told, str) and told else prompt_id,
            client_id=client_id,
            token=request.token,
            node_errors=errors if isinstance(errors, dict) else {},
        )

    async def forget(self, prompt_id: str) -> None:
        """Takes an ended prompt out of the history. What cannot be done is left."""
        try:
            await self._client.forget(prompt_id)
        except (Unreachable, Refused) as error:
            log.debug("a prompt stays in the history", error=error.message)

    async def _submit(self, body: dict[str, Any], prompt_id: str, token: str) -> dict[str, Any]:
        for again in range(TRIES):
            try:
                return await self._client.submit(body)
            except Refused as refused:
                if refused.answered < 500:
                    raise
                fault: Refused | Unreachable = refused
            except Unreachable as error:
                fault = error
            log.warning("it is not known whether a prompt was taken", job_id=prompt_id, error=fault.message)
            if (there := await self._patiently(lambda: self._there(prompt_id, token))) is not None:
                return {"prompt_id": there}
            if again == TRIES - 1:
                break
        if isinstance(fault, Refused):
            raise fault
        raise EngineLost(f"the ComfyUI did not take the prompt: {fault.message}")

    async def _there(self, prompt_id: str, token: str) -> str | None:
        """The id of the prompt that was just submitted, if it arrived. It may take a moment to show."""
        for pause in (0.0, self._patience.submit_pause):
            await asyncio.sleep(pause)
            for item in await self._client.queue():
                if prompt_id in (item.prompt_id, item.job):
                    return item.prompt_id
            for found, entry in await self._entries(prompt_id):
                if is_of(entry, token):
                    return found
        return None

    def _is_ours(self, item: Item) -> bool:
        return (item.worker, item.deployment) == (self._worker, self._deployment)

    async def _find(self, request: RunRequest) -> Placed | None:
        for item in await self._client.queue():
            if request.job in (item.prompt_id, item.job):
                return Placed(prompt_id=item.prompt_id, client_id=item.client_id, token=item.token, node_errors={})
        for prompt_id, entry in await self._entries(request.job):
            found = Item.of_entry(entry)
            if ending_of(entry).outcome == "succeeded" or (found is not None and found.token == request.token):
                token = found.token if found is not None else ""
                return Placed(prompt_id=prompt_id, client_id="", token=token, node_errors={})
            await self.forget(prompt_id)
        return None

    async def _entries(self, job: str) -> Iterable[tuple[str, dict[str, Any]]]:
        """The job's history entries. Old versions gave it an id of their own, so then all are looked through."""
        entry = await self._client.history(job)
        if entry is not None:
            return [(job, entry)]
        if self._takes_our_ids:
            return []
        listed = await self._client.recent(LISTED_ENTRIES)
        return [
            (prompt_id, entry)
            for prompt_id, entry in listed.items()
            if (item := Item.of_entry(entry)) is not None and item.job == job
        ]

    async def _patiently(self, ask: Callable[[], Awaitable[T]]) -> T:
        """What `ask` gives, asked again while the instance does not answer, as long as there is hope."""
        began = self._clock()
        while True:
            try:
                return await ask()
            except (Unreachable, Refused) as error:
                if self._clock() - began >= limit(self._patience, trouble_of(error)):
                    raise EngineLost(f"the ComfyUI is gone: {error.message}") from error
                await asyncio.sleep(self._patience.look)
