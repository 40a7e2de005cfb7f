"""What a ComfyUI client sees on its socket, frame by frame, against the recording of a real ComfyUI."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import websockets

from tests.support.tree import Tree, txt2img

TRANSCRIPTS = Path(__file__).parents[1] / "data" / "transcripts"
CLIENT = "client-a"


def recorded(name: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A transcript's first POST /prompt body, and what its first client saw, up to the end of that prompt."""
    transcript = json.loads((TRANSCRIPTS / f"{name}.json").read_text())
    body = transcript["exchanges"][0]["request"]["json"]
    frames = transcript["websockets"][0]["events"]
    end = next(i for i, f in enumerate(frames) if f.get("type") == "executing" and f["data"]["node"] is None)
    return body, frames[: end + 1]


def plain(frames: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Frames without what differs from run to run: times, counters in names, tracebacks, printed tensors."""

    def clean(key: str, value: Any) -> Any:
        if key in {"timestamp", "traceback", "current_inputs"}:
            return f"<{key}>"
        if key in {"executed", "current_outputs"}:
            return sorted(value)
        if isinstance(value, dict):
            return {k: clean(k, v) for k, v in value.items()}
        if isinstance(value, list):
            return [clean("", v) for v in value]
        return re.sub(r"_\d{5}_\.png$", "_N_.png", value) if isinstance(value, str) else value

    return [clean("", frame) for frame in frames]


async def watch(server: Tree, body: dict[str, Any], *, interrupt_at: int | None = None) -> list[dict[str, Any]]:
    """Posts a prompt and gives every text frame from the opening of the socket to the end of that prompt."""
    url = f"{server.base.replace('http', 'ws', 1)}/ws?clientId={CLIENT}"
    async with websockets.connect(url, max_size=None) as socket, asyncio.timeout(90):
        frames = [json.loads(await socket.recv())]
        answer = await asyncio.to_thread(server.http.post, "/prompt", json=body)
        assert answer.status_code == 200, answer.text
        steps = 0
        async for frame in socket:
            if isinstance(frame, bytes):
                continue
            frames.append(json.loads(frame))
            kind, data = frames[-1]["type"], frames[-1]["data"]
            steps += kind == "progress"
            if kind == "progress" and steps == interrupt_at:
                await asyncio.to_thread(server.http.post, "/interrupt")
            if kind == "executing" and data["node"] is None:
                return frames
    raise AssertionError("the socket closed before the prompt ended")


def kinds(frames: list[dict[str, Any]]) -> list[str]:
    """Types in order, runs of step frames folded: how many steps were made before a stop is chance."""
    found = [f["type"] for f in frames]
    return re.sub(r"(progress_state progress )+", "STEPS ", " ".join(found) + " ").split()


async def test_a_success_and_its_cached_rerun_tell_what_comfyui_tells(server: Tree) -> None:
    for name in ("01_image_only_success", "02_cached_rerun"):
        body, expected = recorded(name)
        seen = await watch(server, body)
        assert plain(seen) == plain(expected), name


async def test_txt2img_tells_what_comfyui_tells(server: Tree) -> None:
    body, expected = recorded("60_txt2img")
    body["prompt"]["4"]["inputs"]["ckpt_name"] = "limner-demo.safetensors"
    seen = await watch(server, body)
    assert plain(seen) == plain(expected)


async def test_a_failing_node_tells_what_comfyui_tells(server: Tree) -> None:
    """The recorded pack node that raises is not here; a number where a picture belongs fails in its place."""
    body, expected = recorded("20_runtime_error")
    body["prompt"]["9"] = {"class_type": "ImageScale", "inputs": body["prompt"]["2"]["inputs"] | {"image": 5}}
    body["prompt"]["3"]["inputs"] = {"image": ["9", 0]}
    seen = await watch(server, body)
    start = kinds(seen).index("execution_error")
    assert kinds(seen)[start:] == ["execution_error", "status", "executing"] == kinds(expected)[-3:]
    mine = next(f["data"] for f in seen if f["type"] == "execution_error")
    theirs = next(f["data"] for f in expected if f["type"] == "execution_error")
    assert mine.keys() == theirs.keys()
    assert (mine["node_id"], mine["node_type"]) == ("9", "ImageScale")
    assert mine["exception_message"].endswith("\n")
    assert mine["current_inputs"]["image"] == [5]
    entry = server.get(f"/history/{body['prompt_id']}")[body["prompt_id"]]
    assert entry["status"]["status_str"] == "error"
    assert entry["status"]["completed"] is False
    assert [m[0] for m in entry["status"]["messages"]] == ["execution_start", "execution_cached", "execution_error"]


async def test_an_interrupted_run_tells_what_comfyui_tells(server: Tree) -> None:
    _, expected = recorded("21_interrupt")
    body = {"prompt": txt2img(steps=10000), "client_id": CLIENT, "prompt_id": "interrupted-one"}
    seen = await watch(server, body, interrupt_at=3)
    assert kinds(seen)[-5:] == ["executing", "STEPS", "execution_interrupted", "status", "executing"]
    assert kinds(seen)[-5:] == kinds(expected)[-5:]
    mine = next(f["data"] for f in seen if f["type"] == "execution_interrupted")
    theirs = next(f["data"] for f in expected if f["type"] == "execution_interrupted")
    assert mine.keys() == theirs.keys()
    assert (mine["node_id"], mine["node_type"]) == ("3", "KSampler")
    status = server.get("/history/interrupted-one")["interrupted-one"]["status"]
    assert (status["status_str"], status["completed"]) == ("error", False)


async def test_a_watcher_hears_of_the_queue_only(server: Tree) -> None:
    url = f"{server.base.replace('http', 'ws', 1)}/ws?clientId=watcher"
    body, _ = recorded("01_image_only_success")
    body |= {"prompt_id": "watched-one"}
    async with websockets.connect(url) as socket, asyncio.timeout(30):
        await watch(server, body)
        remaining = [
            json.loads(await socket.recv())["data"]["status"]["exec_info"]["queue_remaining"] for _ in range(4)
        ]
    assert remaining == [0, 1, 1, 0]
