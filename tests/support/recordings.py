"""Recorded exchanges of ComfyUI, read and made comparable."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

DATA = Path(__file__).parent.parent / "data"
UNSTEADY = ("timestamp", "traceback")
RUN_EVENTS = (
    "execution_start",
    "execution_cached",
    "progress_state",
    "executing",
    "progress",
    "executed",
    "execution_success",
    "execution_error",
    "execution_interrupted",
)


def recording(name: str) -> dict[str, Any]:
    """One transcript by its number, such as "01"."""
    [path] = (DATA / "transcripts").glob(f"{name}_*.json")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def prompts(transcript: dict[str, Any]) -> list[dict[str, Any]]:
    """The bodies of the accepted POST /prompt requests."""
    return [
        exchange["request"]["json"]
        for exchange in transcript["exchanges"]
        if exchange["request"]["path"] == "/prompt"
        and exchange["request"]["method"] == "POST"
        and exchange["response"]["status"] == 200
    ]


def history(transcript: dict[str, Any], prompt_id: str) -> dict[str, Any]:
    for exchange in transcript["exchanges"]:
        if exchange["request"]["path"] == f"/history/{prompt_id}":
            entry: dict[str, Any] = exchange["response"]["json"][prompt_id]
            return entry
    raise KeyError(prompt_id)


def run_events(transcript: dict[str, Any], prompt_id: str) -> list[dict[str, Any]]:
    """What the client saw of one run, without `status` and the closing `executing: null`."""
    [socket] = [each for each in transcript["websockets"] if each["client"] == "A"]
    return [
        comparable(event)
        for event in socket["events"]
        if event.get("type") in RUN_EVENTS
        and event["data"]["prompt_id"] == prompt_id
        and not (event["type"] == "executing" and event["data"]["node"] is None)
    ]


def comparable(value: Any) -> Any:
    """The same without what differs from run to run: times, tracebacks, random letters, the order of sets."""
    if isinstance(value, dict):
        return {name: _in_order(name, comparable(each)) for name, each in value.items() if name not in UNSTEADY}
    if isinstance(value, list):
        return [comparable(each) for each in value]
    return re.sub(r"ComfyUI_temp_[a-z]{5}_", "ComfyUI_temp_xxxxx_", value) if isinstance(value, str) else value


def _in_order(name: str, value: Any) -> Any:
    if name == "errors":
        return sorted(value, key=lambda each: json.dumps(each, sort_keys=True))
    return sorted(value) if name in ("executed", "current_outputs") else value
