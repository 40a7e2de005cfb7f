"""How a job's end is told in ComfyUI's words, in history's messages and on sockets alike."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from limner.jobs.model import State

Message = tuple[str, dict[str, Any]]

REFUSAL = ("error", "node_errors")
"""What a ComfyUI behind Limner answered when it would not take the prompt, as POST /prompt answers it."""

ENDS = ("execution_success", "execution_error", "execution_interrupted")


def closing(prompt_id: str, state: str, messages: Sequence[Sequence[Any]], error: dict[str, Any] | None) -> Message:
    """The message that ends a job: the run's own, or one made up for a job that ended without a word of its run."""
    for name, data in reversed(messages):
        if name in ENDS:
            return name, data
    now = int(time.time() * 1000)
    match state:
        case State.SUCCEEDED:
            return "execution_success", {"prompt_id": prompt_id, "timestamp": now}
        case State.CANCELED:
            where = {"node_id": "", "node_type": "", "executed": []}
            return "execution_interrupted", {"prompt_id": prompt_id, **where, "timestamp": now}
        case _:
            return "execution_error", _error_without_run(prompt_id, error or {}, now)


def _error_without_run(prompt_id: str, error: dict[str, Any], now: int) -> dict[str, Any]:
    """execution_error's data, as far as it is known, for a job that no worker could finish."""
    return {
        "prompt_id": prompt_id,
        "node_id": error.get("node_id", ""),
        "node_type": error.get("node_type", ""),
        "executed": error.get("executed", []),
        "exception_message": error.get("exception_message") or error.get("message", "The job could not be run."),
        "exception_type": error.get("exception_type") or error.get("code", "failed"),
        "traceback": error.get("traceback", []),
        "current_inputs": error.get("current_inputs", {}),
        "current_outputs": error.get("current_outputs", []),
        "timestamp": error.get("timestamp", now),
        **{name: error[name] for name in REFUSAL if name in error},
    }
