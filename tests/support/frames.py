"""Engine events as the frames that a ComfyUI client would get: enough to compare a run with a recording."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from limner.engine.events import (
    Event,
    NodeBlocked,
    NodeFinished,
    NodeOutput,
    NodeRef,
    NodesCached,
    NodeStarted,
    PackEvent,
    PreviewReady,
    RunFailed,
    RunInterrupted,
    RunStarted,
    RunSucceeded,
    StepDone,
    TextShown,
    Warned,
)


def frames(events: Iterable[Event], prompt_id: str) -> list[dict[str, Any]]:
    """The text frames of one run, in order, without times and tracebacks."""
    told: list[dict[str, Any]] = []
    nodes: dict[str, dict[str, Any]] = {}

    def tell(kind: str, **data: Any) -> None:
        told.append({"type": kind, "data": {**data, "prompt_id": prompt_id}})

    def state(ref: NodeRef, value: float, maximum: float, name: str) -> None:
        nodes[ref.id] = {
            "value": value,
            "max": maximum,
            "state": name,
            "node_id": ref.id,
            "prompt_id": prompt_id,
            "display_node_id": ref.display,
            "parent_node_id": ref.parent,
            "real_node_id": ref.real,
        }
        tell("progress_state", nodes={each: dict(data) for each, data in nodes.items()})

    for event in events:
        match event:
            case RunStarted():
                tell("execution_start")
            case NodesCached():
                tell("execution_cached", nodes=list(event.nodes))
            case NodeStarted():
                state(event.node, 0.0, 1.0, "running")
                tell("executing", node=event.node.id, display_node=event.node.display)
            case StepDone():
                state(event.node, event.value, event.maximum, "running")
                tell("progress", value=event.value, max=event.maximum, node=event.node.id)
            case NodeOutput():
                tell("executed", node=event.node.id, display_node=event.node.display, output=event.ui)
            case NodeFinished():
                maximum = 1 if event.cached else nodes[event.node.id]["max"]
                state(event.node, maximum, maximum, "finished")
            case RunSucceeded():
                tell("execution_success")
            case RunFailed():
                tell(
                    "execution_error",
                    node_id=event.node.real,
                    node_type=event.node_type,
                    executed=sorted(event.executed),
                    exception_message=event.exception_message,
                    exception_type=event.exception_type,
                    current_inputs=event.current_inputs,
                    current_outputs=sorted(event.current_outputs),
                )
            case RunInterrupted():
                tell(
                    "execution_interrupted",
                    node_id=event.node.real,
                    node_type=event.node_type,
                    executed=sorted(event.executed),
                )
            case NodeBlocked():
                tell(
                    "execution_error",
                    node_id=event.node.real,
                    node_type=event.node_type,
                    executed=sorted(event.executed),
                    exception_message=f"Execution Blocked: {event.message}",
                    exception_type="ExecutionBlocked",
                    current_inputs=[],
                    current_outputs=[],
                )
            case PackEvent():
                told.append({"type": event.name, "data": event.data})
            case PreviewReady() | Warned() | TextShown():
                continue  # no text frame
    return told
