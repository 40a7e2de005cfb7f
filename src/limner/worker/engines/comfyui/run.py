"""One run on a ComfyUI: inputs up, the prompt placed and followed, its outputs down, its end told."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from limner import logs
from limner.enginehost.protocol import RunRequest
from limner.graph.spec import NodeSpec
from limner.graph.workflow import as_link
from limner.worker.engines.comfyui import causes, history, tasks
from limner.worker.engines.comfyui.client import ComfyClient, Refused, Unreachable
from limner.worker.engines.comfyui.follow import Follow, Hung
from limner.worker.engines.comfyui.history import Ending
from limner.worker.engines.comfyui.inputs import Prepared, Uploads, unlisted
from limner.worker.engines.comfyui.line import Line
from limner.worker.engines.comfyui.looking import Looking
from limner.worker.engines.comfyui.outputs import FileGone, Outputs
from limner.worker.engines.comfyui.patience import Patience
from limner.worker.engines.comfyui.placing import Placed, Placing
from limner.worker.engines.comfyui.reading import Reading
from limner.worker.engines.comfyui.stopping import Stopping
from limner.worker.engines.comfyui.telling import Telling
from limner.worker.engines.port import EngineEvent, EngineLost, RunEnded, Sink
from limner.worker.events import failure

log = logs.get("comfyui")

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """What all runs of a worker share."""

    client: ComfyClient
    line: Line
    placing: Placing
    uploads: Uploads
    specs: Mapping[str, NodeSpec]
    patience: Patience
    hang_seconds: float
    keep_temp: bool


class ComfyRun:
    """`go` runs it. `prompt_id` is that on the instance, once it is there; `sick` and `stuck` tell in what state it
    leaves the instance: with a GPU that works no more, or with a prompt that does not stop.
    """

    def __init__(self, instance: Instance, request: RunRequest, sink: Sink, stopping: Stopping) -> None:
        self.prompt_id = ""
        self.sick = False
        self.stuck = False
        self._instance = instance
        self._request = request
        self._sink = sink
        self._stopping = stopping
        self._reading = Reading("", watched=request.previews)

    def watch(self, previews: bool) -> None:
        self._reading.watched = previews

    async def go(self) -> RunEnded:
        """Raises EngineLost, Hung, Unreachable, and what the sink raises; the prompt is stopped then, if it can be."""
        found = await self._instance.placing.find(self._request)
        if found is None and (self._request.interrupted or self._stopping.asked.is_set()):
            return self._stopped()
        line = self._instance.line
        try:
            client_id = await line.begin(found.client_id if found is not None else "")
            if found is not None:
                log.info("a run that began before is taken up again", job_id=self._request.job)
                prepared = await self._instance.uploads.recall(self._request)
                return await self._attend(found, prepared, taken_up=True)
            uploaded = await _unless(self._stopping.asked.wait(), self._prepare())
            return self._stopped() if uploaded is None else await self._begin(uploaded, client_id)
        finally:
            await self._stopping.close()
            await line.end()

    async def _prepare(self, flat: frozenset[str] = frozenset()) -> Prepared:
        return await self._instance.uploads.prepare(self._request, self._instance.specs, flat=flat)

    async def _begin(self, prepared: Prepared, client_id: str) -> RunEnded:
        """Submits the workflow; once more where the instance does not list uploads in folders."""
        try:
            placed = await self._submit(prepared, client_id)
        except Refused as refused:
            flat = unlisted(refused.body, prepared)
            if not flat:
                return self._refused(refused, prepared)
            prepared = await self._prepare(flat)
            try:
                placed = await self._submit(prepared, client_id)
            except Refused as again:
                return self._refused(again, prepared)
        return await self._attend(placed, prepared)

    async def _submit(self, prepared: Prepared, client_id: str) -> Placed:
        wanted = only_wanted(prepared.workflow, self._request.outputs, self._instance.specs)
        return await self._instance.placing.submit(self._request, wanted, client_id)

    def _refused(self, refused: Refused, prepared: Prepared) -> RunEnded:
        return causes.refusal(refused.answered, refused.body, prepared.workflow, restore=prepared.restore)

    async def _attend(self, placed: Placed, prepared: Prepared, *, taken_up: bool = False) -> RunEnded:
        """From the placed prompt to the end of the run."""
        shared = self._instance
        self.prompt_id = self._reading.prompt_id = placed.prompt_id
        self._stopping.found(placed.prompt_id)
        outputs = Outputs(shared.client, self._request, self._sink, keep_temp=shared.keep_temp, prepared=prepared)
        telling = Telling(self._sink, outputs, prepared)
        follow = Follow(
            line=shared.line,
            looking=Looking(shared.client, placed.prompt_id, placed.token, shared.patience),
            reading=self._reading,
            telling=telling,
            stopping=self._stopping,
            patience=shared.patience,
            hang_seconds=shared.hang_seconds,
            taken_up=taken_up,
        )
        try:
            for warning in _warnings(placed, prepared):
                telling.tell(warning)
            ending = await follow.follow()
            if ending is None:
                self.stuck = self._stopping.deaf
                return self._stopped()
            await self._stopping.close()
            ending = replace(ending, data=prepared.restore(ending.data))
            # Who stops a run waits for what is on its way, but not for long.
            ended = await _unless(self._stopping.overdue(), self._end(ending, telling, missed=follow.missed))
            return self._stopped() if ended is None else ended
        except EngineLost as lost:
            if isinstance(lost, Hung) or telling.failed:
                await self._give_up()
            lost.details |= self._where()
            raise
        except FileGone as gone:
            log.warning("a cached result's file is gone: the cache goes too", job_id=self._request.job, error=str(gone))
            await self._give_up()
            await self._drop_cache()
            raise
        except Exception:
            await self._give_up()
            raise
        finally:
            await telling.close()

    async def _end(self, ending: Ending, telling: Telling, *, missed: bool) -> RunEnded:
        """The end of the run, once all is told and every file is here."""
        await telling.told()
        if ending.outcome == "interrupted" and not self._stopping.asked.is_set():
            lost = EngineLost("somebody else has interrupted the prompt on its ComfyUI", **self._where())
            return replace(failure(lost), models=self._models())
        outputs, files = await telling.settle(ending, missed=missed)
        self.sick = ending.outcome == "failed" and causes.of_exception(ending.data).sick
        return history.ended(ending, outputs=outputs, files=files, models=self._models())

    async def _give_up(self) -> None:
        """The run is over for us: stops the prompt, and waits a little until it is gone."""
        self.stuck = True
        with contextlib.suppress(Unreachable, Refused):
            self.stuck = not await self._instance.placing.stop(self.prompt_id)
        if self.stuck:
            log.warning("a run that is given up goes on at its ComfyUI", job_id=self._request.job)

    async def _drop_cache(self) -> None:
        """Has the next attempt run every node, and not find how this one ended."""
        try:
            await self._instance.client.free(unload_models=False, free_memory=True)
        except (Unreachable, Refused) as error:
            log.warning("a ComfyUI could not be told to drop its cache", error=error.message)
        await self._instance.placing.forget(self.prompt_id)

    def _stopped(self) -> RunEnded:
        where = self._where()
        return RunEnded(outcome="interrupted", end={**where, "executed": []}, models=self._models())

    def _where(self) -> dict[str, Any]:
        """The node that ran last, and its class."""
        node = self._reading.current or {}
        box = self._request.workflow.get(node.get("real", ""))
        class_type = box.get("class_type", "") if isinstance(box, dict) else ""
        return {"node": node, "node_type": str(class_type)}

    def _models(self) -> list[str]:
        """The model files that the workflow names: what the instance has at hand now."""
        found: dict[str, None] = {}
        for box in self._request.workflow.values():
            spec = self._instance.specs.get(str(box.get("class_type", "")))
            for each in spec.inputs if spec is not None else ():
                value = (box.get("inputs") or {}).get(each.name)
                if each.folder is not None and isinstance(value, str):
                    found[value] = None
        return list(found)


async def _unless(over: Coroutine[Any, Any, Any], work: Coroutine[Any, Any, T]) -> T | None:
    """What the work gives; None where the other ends first."""
    task, other = asyncio.create_task(work), asyncio.create_task(over)
    try:
        await asyncio.wait({task, other}, return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else None
    finally:
        await tasks.end(other)
        await tasks.end(task)


def only_wanted(workflow: dict[str, Any], outputs: list[str], specs: Mapping[str, NodeSpec]) -> dict[str, Any]:
    """The workflow without output nodes that nothing wanted needs; all of it where every output is wanted."""
    needed: set[str] = set()
    ahead = [node for node in outputs if node in workflow]
    while ahead:
        node = ahead.pop()
        if node not in needed:
            needed.add(node)
            ahead += _sources(workflow[node], workflow)
    if not needed:
        return workflow
    return {node: box for node, box in workflow.items() if node in needed or not _is_output(box, specs)}


def _sources(box: Any, workflow: Mapping[str, Any]) -> list[str]:
    """The nodes that feed a node."""
    inputs = box.get("inputs") if isinstance(box, dict) else None
    links = (as_link(value) for value in (inputs or {}).values())
    return [link.node_id for link in links if link is not None and link.node_id in workflow]


def _is_output(box: Any, specs: Mapping[str, NodeSpec]) -> bool:
    spec = specs.get(str(box.get("class_type", ""))) if isinstance(box, dict) else None
    return spec is not None and spec.output_node


def _warnings(placed: Placed, prepared: Prepared) -> list[EngineEvent]:
    """What the instance has against some outputs, where it runs the others."""
    found = []
    for node, told in prepared.restore(placed.node_errors).items():
        for fault in causes.faults_of({node: told}):
            words = ": ".join(str(fault[name]) for name in ("message", "details") if fault.get(name))
            data = {"node": causes.node_ref(str(node)), "text": f"this output is left out: {words}"}
            found.append(EngineEvent(kind="Warned", data=data))
    return found
