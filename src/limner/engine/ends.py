"""How a run ends, and what history tells of a node, in the engine's own words."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from limner.engine.events import NodeRef, RunFailed, RunInterrupted, RunSucceeded
from limner.engine.failure import Failure, shown_inputs

End = RunSucceeded | RunFailed | RunInterrupted

CYCLE = Failure(
    exception_type="graph.DependencyCycleError",
    exception_message="Dependency cycle detected\n",
    traceback=(),
    code="invalid_workflow",
    retryable=False,
)


def failed(
    ref: NodeRef,
    node_type: str,
    failure: Failure,
    *,
    inputs: Mapping[str, Sequence[Any]] | None = None,
    nodes: Iterable[str] = (),
    executed: Iterable[str] = (),
    refusal: dict[str, Any] | None = None,
) -> RunFailed:
    """`nodes`: all that the run has; `executed`: those that ran."""
    return RunFailed(
        node=ref,
        node_type=node_type,
        exception_type=failure.exception_type,
        exception_message=failure.exception_message,
        traceback=failure.traceback,
        current_inputs=shown_inputs(inputs or {}),
        current_outputs=tuple(nodes),
        executed=tuple(executed),
        code=failure.code,
        retryable=failure.retryable,
        timestamp_ms=now_ms(),
        refusal=refusal or {},
    )


def meta_of(ref: NodeRef) -> dict[str, Any]:
    """What history tells of the node behind an output."""
    return {"node_id": ref.id, "display_node": ref.display, "parent_node": ref.parent, "real_node_id": ref.real}


def now_ms() -> int:
    return time.time_ns() // 1_000_000
