"""How a prompt ended, read from ComfyUI's history."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from limner.worker.engines.comfyui import causes
from limner.worker.engines.comfyui.values import sound
from limner.worker.engines.port import RunEnded

Outcome = Literal["succeeded", "failed", "interrupted"]

ENDS: dict[str, Outcome] = {
    "execution_success": "succeeded",
    "execution_error": "failed",
    "execution_interrupted": "interrupted",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """`data` is what the message that ended the prompt holds; empty where the entry has none."""

    outcome: Outcome
    outputs: dict[str, dict[str, Any]] = field(default_factory=dict)
    meta: dict[str, dict[str, Any]] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)


def ending_of(entry: dict[str, Any]) -> Ending:
    """What a history entry says. Whether a prompt failed or was interrupted, only its messages tell.

    Both have the status "error", and an entry has no `error` member.
    """
    status = _object(entry.get("status"))
    outcome, data = _last_word(status.get("messages"))
    if status.get("status_str") == "success":
        outcome = "succeeded"
    elif status.get("status_str") == "error" and outcome != "interrupted":
        outcome = "failed"
    outputs = {str(node): sound(ui) for node, ui in _object(entry.get("outputs")).items() if isinstance(ui, dict)}
    told = _object(entry.get("meta"))
    meta = {node: {**_plain_meta(node), **sound(_object(told.get(node)))} for node in outputs}
    return Ending(outcome=outcome or "succeeded", outputs=outputs, meta=meta, data=sound(data))


def ended(
    ending: Ending, *, outputs: dict[str, Any], files: list[dict[str, str]], models: Sequence[str] = ()
) -> RunEnded:
    """The end of the run. `outputs`: the ending's, with the names under which the files are kept."""
    data = ending.data
    if ending.outcome == "failed":
        return causes.failed(data, outputs=outputs, meta=ending.meta, files=files, models=models)
    end = causes.when(data)
    if ending.outcome == "interrupted":
        node = str(data.get("node_id") or "")
        end |= {
            "node": causes.node_ref(node),
            "node_type": str(data.get("node_type") or ""),
            "executed": causes.texts(data.get("executed")),
        }
    return RunEnded(
        outcome=ending.outcome, end=end, outputs=outputs, meta=ending.meta, files=files, models=list(models)
    )


def _last_word(messages: Any) -> tuple[Outcome | None, dict[str, Any]]:
    """The last message that tells an end, and its data. ExecutionBlocked's errors are no end and never stand here."""
    for message in reversed(messages if isinstance(messages, list) else []):
        if isinstance(message, list) and len(message) == 2 and message[0] in ENDS:
            return ENDS[message[0]], _object(message[1])
    return None, {}


def _plain_meta(node: str) -> dict[str, Any]:
    """What old versions leave out: the node stands for itself."""
    return {"node_id": node, "display_node": node, "parent_node": None, "real_node_id": node}


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
