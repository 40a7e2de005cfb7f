"""Sends the requests of a recording to a running server, and gives what its clients saw, run by run."""

from __future__ import annotations

import asyncio
import json
import re
from contextlib import AsyncExitStack
from typing import Any

import websockets
from websockets.asyncio.client import ClientConnection

from tests.support.tree import Tree

UNSTEADY = {"timestamp", "traceback", "current_inputs"}
SETS = {"executed", "current_outputs"}


class Watcher:
    """One socket, its frames in order; binary ones as `{"binary": event, ...}`."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.frames: list[dict[str, Any]] = []

    async def until_end(self, prompt_id: str) -> list[dict[str, Any]]:
        """What comes until the server says that this prompt is over."""
        start = len(self.frames)
        async for frame in self.socket:
            self.frames.append(decoded(frame))
            data = self.frames[-1].get("data", {})
            if self.frames[-1].get("type") == "executing" and data["node"] is None and data["prompt_id"] == prompt_id:
                return self.frames[start:]
        raise AssertionError("the socket closed before the prompt ended")


async def replay(server: Tree, transcript: dict[str, Any]) -> tuple[dict[str, list[dict[str, Any]]], dict[str, Any]]:
    """(frames by prompt id as the prompt's own client saw them, history entry by prompt id)."""
    seen: dict[str, list[dict[str, Any]]] = {}
    history: dict[str, Any] = {}
    async with AsyncExitStack() as stack, asyncio.timeout(120):
        watchers: dict[str, Watcher] = {}
        for told in transcript["websockets"]:
            url = f"{server.base.replace('http', 'ws', 1)}/ws?{told['query']}"
            socket = await stack.enter_async_context(websockets.connect(url, max_size=None))
            if told["first_message_sent"]:
                await socket.send(json.dumps(told["first_message_sent"]))
            watchers[told["query"].partition("clientId=")[2]] = Watcher(socket)
        for exchange in transcript["exchanges"]:
            request = exchange["request"]
            if request["path"] != "/prompt" or exchange["response"]["status"] != 200 or request["method"] != "POST":
                continue
            body = request["json"]
            answer = await asyncio.to_thread(server.http.post, "/prompt", json=body)
            assert answer.status_code == 200, answer.text
            seen[body["prompt_id"]] = await watchers[body["client_id"]].until_end(body["prompt_id"])
            history |= await asyncio.to_thread(server.get, f"/history/{body['prompt_id']}")
    return seen, history


def decoded(frame: str | bytes) -> dict[str, Any]:
    if isinstance(frame, str):
        message: dict[str, Any] = json.loads(frame)
        return message
    event = int.from_bytes(frame[:4], "big")
    if event == 3:
        length = int.from_bytes(frame[4:8], "big")
        return {"binary": 3, "node": frame[8 : 8 + length].decode(), "text": frame[8 + length :].decode()}
    if event == 4:
        length = int.from_bytes(frame[4:8], "big")
        return {"binary": 4, "metadata": json.loads(frame[8 : 8 + length])}
    return {"binary": event, "kind": int.from_bytes(frame[4:8], "big")}


def recorded_runs(transcript: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """The frames of each prompt as its own client saw them, by prompt id."""
    clients = {
        exchange["request"]["json"]["prompt_id"]: exchange["request"]["json"]["client_id"]
        for exchange in transcript["exchanges"]
        if exchange["request"]["path"] == "/prompt" and exchange["response"]["status"] == 200
    }
    found: dict[str, list[dict[str, Any]]] = {}
    for told in transcript["websockets"]:
        client = told["query"].partition("clientId=")[2]
        mine = [prompt_id for prompt_id, owner in clients.items() if owner == client]
        rest = told["events"]
        for prompt_id in mine:
            end = next(
                index
                for index, frame in enumerate(rest)
                if frame.get("type") == "executing"
                and frame["data"]["node"] is None
                and frame["data"]["prompt_id"] == prompt_id
            )
            found[prompt_id], rest = [_as_decoded(frame) for frame in rest[: end + 1]], rest[end + 1 :]
    return found


def _as_decoded(frame: dict[str, Any]) -> dict[str, Any]:
    if "binary" not in frame:
        return frame
    told = frame["binary"]
    return (
        decoded(bytes.fromhex(told["head_hex"])) if told["event"] != 4 else {"binary": 4, "metadata": told["metadata"]}
    )


def of_run(frames: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The frames of the run itself, without what differs from run to run and without the queue's lengths."""
    return [clean("", frame) for frame in frames if frame.get("type") not in ("status", "feature_flags")]


def clean(key: str, value: Any) -> Any:
    if key in UNSTEADY:
        return f"<{key}>"
    if key in SETS:
        return sorted(value)
    if isinstance(value, dict):
        return {name: clean(name, each) for name, each in value.items()}
    if isinstance(value, list):
        return [clean("", each) for each in value]
    if isinstance(value, str):
        value = re.sub(r"ComfyUI_temp_[a-z]+_", "ComfyUI_temp_x_", value)
        return re.sub(r"_\d{5}_\.png$", "_N_.png", value)
    return value
