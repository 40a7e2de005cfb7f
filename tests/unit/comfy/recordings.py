"""Recorded sockets, read backwards into the engine events that must have led to their frames."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from limner.bus.messages import Live
from limner.comfy.dialect.ordering import Arrival

TRANSCRIPTS = Path(__file__).parents[2] / "data" / "transcripts"

STATES = {"execution_success": "succeeded", "execution_error": "failed", "execution_interrupted": "canceled"}
IMAGE_TYPES = {1: "image/jpeg", 2: "image/png"}


def sockets(name: str) -> list[tuple[str, list[dict[str, Any]]]]:
    """Each recorded client's letter and frames."""
    (path,) = TRANSCRIPTS.glob(f"{name}_*.json")
    return [(each["client"], each["events"]) for each in json.loads(path.read_text())["websockets"]]


def runs(frames: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """The frames of each prompt, from after the two `status` that announce it to its last one."""
    current: list[dict[str, Any]] = []
    for frame in frames[1:]:
        kind = frame.get("type")
        if kind == "feature_flags" or (kind == "status" and not current):
            continue
        current.append(frame)
        told_by_status = kind == "status" and all(f.get("type") in ("progress_state", "status") for f in current)
        if told_by_status or (kind == "executing" and frame["data"]["node"] is None):
            yield current
            current = []


def arrivals(frames: list[dict[str, Any]], client: str | None) -> Iterator[Arrival]:
    """The live messages of one run, from its frames."""
    prompt_id = next(f["data"]["prompt_id"] for f in frames if f.get("type") == "progress_state")
    numbered = 0

    def arrival(kind: str, picture: bytes = b"", **data: Any) -> Arrival:
        nonlocal numbered
        numbered += 1
        live = Live(job="j", prompt_id=prompt_id, client_id=client, attempt=1, seq=numbered, kind=kind, data=data)
        return Arrival(live=live, picture=picture)

    known: dict[str, Any] = {}
    messages: list[Any] = []
    for index, frame in enumerate(frames):
        data = frame.get("data", {})
        match frame.get("type"):
            case "execution_start":
                yield arrival("RunStarted", timestamp_ms=data["timestamp"])
            case "execution_cached":
                yield arrival("NodesCached", nodes=data["nodes"], timestamp_ms=data["timestamp"])
            case "progress_state":
                yield from _changes(known, data["nodes"], _picture(frames[index + 1 :]), arrival)
                known = data["nodes"]
            case "executed":
                yield arrival("NodeOutput", node=node_of(data), ui=data["output"], cached=data["node"] not in known)
            case "execution_success" | "execution_error" | "execution_interrupted":
                messages = [[frame["type"], data]]
            case "status":
                remaining = data["status"]["exec_info"]["queue_remaining"]
                state = STATES[messages[0][0]] if messages else "succeeded"
                messages = messages or [["execution_success", {"prompt_id": prompt_id, "timestamp": 0}]]
                ended = {"state": state, "queue_remaining": remaining, "messages": messages, "last_seq": numbered}
                yield arrival("Ended", **ended, error=None)


def _picture(following: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The binary frame that belongs to a step, if it has one."""
    for frame in following:
        if frame.get("type") == "progress_state":
            return None
        if "binary" in frame:
            picture: dict[str, Any] = frame["binary"]
            return picture
    return None


def _changes(
    before: dict[str, Any], now: dict[str, Any], picture: dict[str, Any] | None, arrival: Any
) -> Iterator[Arrival]:
    for node in [node for node, state in now.items() if before.get(node) != state]:
        state, ref = now[node], ref_of(now[node])
        if state["state"] == "finished":
            yield arrival("NodeFinished", node=ref, cached=node not in before)
        elif node not in before:
            yield arrival("NodeStarted", node=ref)
        else:
            if picture is not None:
                rich = picture["event"] == 4
                image_type = picture["metadata"]["image_type"] if rich else IMAGE_TYPES[picture["image_type"]]
                magic = bytes.fromhex(picture["image_magic_hex"])
                yield arrival("PreviewReady", picture=magic, node=ref, image_type=image_type)
            yield arrival("StepDone", node=ref, value=state["value"], maximum=state["max"])


def ref_of(state: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": state["node_id"],
        "display": state["display_node_id"],
        "parent": state["parent_node_id"],
        "real": state["real_node_id"],
    }


def node_of(data: dict[str, Any]) -> dict[str, Any]:
    return {"id": data["node"], "display": data["display_node"], "parent": None, "real": data["node"]}
