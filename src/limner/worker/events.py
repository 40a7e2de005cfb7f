"""The news of one attempt: numbered, published live, and the few that history keeps."""

from __future__ import annotations

from typing import Any

from limner.bus import subjects
from limner.bus.messages import Claimed, Live, encode_preview
from limner.bus.port import Bus
from limner.errors import LimnerError, Unavailable, UnfitWorker
from limner.worker.engines.port import EngineEvent, EngineLost, RunEnded

ENDS = frozenset({"RunSucceeded", "RunFailed", "RunInterrupted"})
REFUSAL = ("error", "node_errors")  # what an engine answered to a workflow that it refused, in ComfyUI's words
Message = list[Any]  # [event name, data], as ComfyUI's history has it


class EventStream:
    """Publishes an attempt's events, but not the end of its run: that is told by the gateway, once it is kept."""

    def __init__(self, bus: Bus, job_id: str, claimed: Claimed) -> None:
        self._bus = bus
        self._job = job_id
        self._claimed = claimed
        self._events = subjects.events(claimed.tenant, job_id)
        self._previews = subjects.previews(claimed.tenant, job_id)
        self.last_seq = 0
        self.kept: list[Message] = []

    async def publish(self, event: EngineEvent) -> None:
        """Sends an event on. Live events are lossy by design: without a connection they are dropped."""
        if event.kind in ENDS:
            return
        self._keep(event)
        self.last_seq += 1
        live = Live(
            job=self._job,
            prompt_id=self._claimed.prompt_id,
            client_id=self._claimed.client_id,
            attempt=self._claimed.attempt,
            seq=self.last_seq,
            kind=event.kind,
            data=event.data,
        )
        try:
            if event.picture:
                await self._bus.publish(self._previews, encode_preview(live, event.picture))
            else:
                await self._bus.publish(self._events, live.encode())
        except Unavailable:
            return

    def _keep(self, event: EngineEvent) -> None:
        if event.kind == "RunStarted":
            self.kept.append(self._message("execution_start", event.data["timestamp_ms"]))
        elif event.kind == "NodesCached":
            nodes = list(event.data["nodes"])
            self.kept.append(self._message("execution_cached", event.data["timestamp_ms"], nodes=nodes))

    def ended(self, ended: RunEnded, timestamp_ms: int) -> Message:
        """The message that ends the run, worded as ComfyUI words it."""
        end = {"timestamp_ms": timestamp_ms, **ended.end}
        match ended.outcome:
            case "succeeded":
                return self._message("execution_success", end["timestamp_ms"])
            case "interrupted":
                where = {"node_id": _real(end), "node_type": end["node_type"], "executed": list(end["executed"])}
                return self._message("execution_interrupted", end["timestamp_ms"], **where)
            case _:
                names = ("exception_message", "exception_type", "traceback", "current_inputs", "current_outputs")
                told = {"node_id": _real(end), "node_type": end["node_type"], "executed": list(end["executed"])}
                told |= {name: end[name] for name in names}
                told |= {name: said for name, said in end.get("refusal", {}).items() if name in REFUSAL}
                return self._message("execution_error", end["timestamp_ms"], **told)

    def _message(self, name: str, timestamp_ms: int, **data: Any) -> Message:
        return [name, {"prompt_id": self._claimed.prompt_id, **data, "timestamp": timestamp_ms}]


def failure(error: LimnerError) -> RunEnded:
    """An attempt that something outside its nodes ended: a lost engine, a store that does not answer, a node that the
    worker lacks.
    """
    where = error.details if isinstance(error, EngineLost | UnfitWorker) else {}
    node: dict[str, Any] = where.get("node", {})
    end = {
        "node": node,
        "node_type": where.get("node_type", ""),
        "exception_type": type(error).__name__,
        "exception_message": f"{error.message}\n",
        "traceback": [],
        "current_inputs": {},
        "current_outputs": [],
        "executed": [],
        "code": error.code,
        "retryable": error.retryable,
    }
    return RunEnded(outcome="unfit" if isinstance(error, UnfitWorker) else "failed", end=end)


def _real(end: dict[str, Any]) -> str:
    node: dict[str, str] = end.get("node") or {}
    return node.get("real", "")
