"""One attempt of a job: inputs down, the run with its events, outputs up, and the report of how it ended."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any, Literal

from limner import logs
from limner.bus.messages import Claimed, Done, Keep, Reserve
from limner.enginehost.protocol import RunRequest
from limner.errors import BadName, LimnerError, Unavailable, UnfitWorker
from limner.worker.engines.port import Engine, EngineEvent, EngineLost, Named, RunEnded, Wanted
from limner.worker.events import EventStream, failure
from limner.worker.files import JobFiles
from limner.worker.gateway import Gateways

log = logs.get("worker")

Stop = Literal["interrupted", "returned"]
"""Why a run is stopped: a caller asked, or the worker is going away."""


class Attempt:
    """It is its engine's `Sink`: what the run tells passes through here, in order."""

    def __init__(
        self,
        *,
        number: int,
        job_id: str,
        claimed: Claimed,
        engine: Engine,
        gateways: Gateways,
        events: EventStream,
        files: JobFiles,
        resumed: bool = False,
    ) -> None:
        self.job_id = job_id
        self.claimed = claimed
        self._number = number
        self._engine = engine
        self._gateways = gateways
        self._events = events
        self._files = files
        self._resumed = resumed
        self._catalogue = engine.info.digest
        self._stop: Stop | None = None
        self._watched = claimed.watched

    async def run(self) -> Done:
        """Runs the job to some end, whatever that is, and gives the report of it."""
        begin = time.monotonic()
        try:
            ended = await self._run()
        except LimnerError as error:
            ended = self._fault(error)
        except OSError as error:  # this machine's disk is full, or has a fault
            ended = self._fault(Unavailable(f"the worker could not keep the job's files: {error}"))
        except (
            Exception
        ) as error:  # a fault of ours: the next job must not pay for it, nor this one come again for ever
            log.exception("the worker failed on a job", job_id=self.job_id)
            ended = self._fault(LimnerError(f"The worker failed on this job: {type(error).__name__}: {error}"))
        return self._report(ended, duration_ms=round((time.monotonic() - begin) * 1000))

    async def stop(self, why: Stop) -> None:
        """Stops the run. The first reason stands."""
        self._stop = self._stop or why
        await self._engine.interrupt()

    async def watch(self) -> None:
        """Somebody looks from now on."""
        self._watched = True
        await self._engine.watch(True)

    async def event(self, event: EngineEvent) -> None:
        """Files go up before the event that names them: who hears of a picture can get it."""
        if event.files:
            await self._files.store(event.files)
        if event.kind == "Warned":
            log.warning("a node warns", job_id=self.job_id, node_id=event.data["node"]["id"], text=event.data["text"])
        await self._events.publish(event)

    async def reserve(self, wanted: Wanted) -> list[dict[str, str]]:
        """Names for output files, waited for under the lease. Raises BadName where the gateway gives none."""
        asked = Reserve(
            id=self.job_id,
            token=self.claimed.token,
            call=wanted.call,
            subfolder=wanted.subfolder,
            prefix=wanted.prefix,
            extension=wanted.extension,
            count=wanted.count,
        )
        answer = await self._gateways.reserve(asked, go_on=lambda: self._stop is None)
        if not answer.ok:
            raise BadName(answer.reason)
        self._files.reserved(answer.names)
        return answer.names

    async def keep(self, files: list[Named]) -> list[dict[str, str]]:
        """The names of files that the engine has named itself. Raises BadName where one cannot be a name."""
        named = [{"subfolder": f.subfolder, "filename": f.filename, "sha256": f.sha256} for f in files]
        asked = Keep(id=self.job_id, token=self.claimed.token, files=named)
        answer = await self._gateways.keep(asked, go_on=lambda: self._stop is None)
        if not answer.ok:
            raise BadName(answer.reason)
        self._files.reserved(answer.names)
        return answer.names

    async def _run(self) -> RunEnded:
        if not self._resumed:
            _check_nodes(self.claimed.workflow, self._engine.info.catalogue)
        inputs = await self._files.fetch_inputs()
        request = RunRequest(
            run=self._number,
            prompt_id=self.claimed.prompt_id,
            tenant=self.claimed.tenant,
            workflow=self.claimed.workflow,
            outputs=self.claimed.outputs,
            extra_data=self.claimed.extra_data,
            inputs=inputs,
            folder=str(self._files.folder),
            previews=self._watched,
            interrupted=self._stop is not None,
            job=self.job_id,
            token=self.claimed.token,
            resumed=self._resumed,
        )
        ended = await self._engine.run(request, self)
        await self._files.store(ended.files)
        return ended

    def _fault(self, error: LimnerError) -> RunEnded:
        """A run that was asked to stop has stopped, also where its engine was lost or nobody answered any more."""
        if self._stop is not None and isinstance(error, EngineLost | Unavailable):
            node: dict[str, Any] = error.details.get("node", {})
            return RunEnded(
                outcome="interrupted",
                end={"node": node, "node_type": error.details.get("node_type", ""), "executed": []},
            )
        return failure(error)

    def _report(self, ended: RunEnded, *, duration_ms: int) -> Done:
        last = self._events.ended(ended, round(time.time() * 1000))
        outcome = "returned" if ended.outcome == "interrupted" and self._stop == "returned" else ended.outcome
        failed = outcome in ("failed", "unfit")
        return Done(
            id=self.job_id,
            token=self.claimed.token,
            outcome=outcome,
            outputs=ended.outputs,
            meta=ended.meta,
            messages=[*self._events.kept, last],
            files=self._files.stored,
            error={**last[1], "code": ended.end["code"], "retryable": ended.end["retryable"]} if failed else None,
            models=ended.models,
            last_seq=self._events.last_seq,
            duration_ms=duration_ms,
            catalogue=self._catalogue,
        )


def _check_nodes(workflow: dict[str, Any], catalogue: dict[str, Any]) -> None:
    """Raises UnfitWorker where the engine's catalogue, if it has one, lacks a node class of the workflow."""
    nodes = catalogue.get("nodes")
    if not nodes:
        return
    lacking = {id: str(node.get("class_type")) for id, node in workflow.items() if node.get("class_type") not in nodes}
    if lacking:
        id, class_type = next(iter(lacking.items()))
        names = ", ".join(sorted(set(lacking.values())))
        raise UnfitWorker(
            f"The engine of this worker has no node class {names}.",
            node={"id": id, "display": id, "parent": None, "real": id},
            node_type=class_type,
        )


def as_failed(done: Done, error: LimnerError) -> Done:
    """The same attempt as a failure, where its report cannot be handed in as it is."""
    names = ("exception_message", "exception_type", "traceback", "current_inputs", "current_outputs", "executed")
    end = failure(error).end
    told = {"prompt_id": done.messages[-1][1]["prompt_id"], "node_id": "", "node_type": ""}
    told |= {name: end[name] for name in names} | {"timestamp": done.messages[-1][1]["timestamp"]}
    return replace(
        done,
        outcome="failed",
        outputs={},
        meta={},
        messages=[*done.messages[:1], ["execution_error", told]],
        error={**told, "code": error.code, "retryable": error.retryable},
    )
