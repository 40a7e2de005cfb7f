"""The replayed ComfyUI itself: over plain HTTP and WebSockets it says what the recordings say, and breaks as asked."""

from __future__ import annotations

import asyncio
import hashlib
import json
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import websockets

from tests.support.recordings import comparable, history, prompts, recording, run_events
from tests.support.replayer import OLD, Replayer
from tests.support.replayer.checks import file_key
from tests.support.replayer.state import made_picture

METADATA = {"type": "feature_flags", "data": {"supports_preview_metadata": True}}
Frames = list[dict[str, Any]]


class Client:
    """A plain client of the server: HTTP, and one socket under `name`."""

    def __init__(self, http: httpx.AsyncClient, ws: websockets.ClientConnection, name: str) -> None:
        self.http = http
        self.ws = ws
        self.name = name

    async def next(self) -> dict[str, Any]:
        """The next frame; a binary one as its words: {"binary": bytes}."""
        async with asyncio.timeout(10):
            frame = await self.ws.recv()
        return {"binary": frame} if isinstance(frame, bytes) else json.loads(frame)

    async def until(self, kind: str, **data: Any) -> Frames:
        """All frames up to one of that type and data."""
        frames = [await self.next()]
        while frames[-1].get("type") != kind or not data.items() <= frames[-1]["data"].items():
            frames.append(await self.next())
        return frames

    async def run(self, body: dict[str, Any]) -> tuple[str, Frames]:
        """Posts a prompt; its id, and all frames to its end."""
        answer = await self.http.post("/prompt", json=body | {"client_id": self.name})
        assert answer.status_code == 200, answer.text
        prompt_id = answer.json()["prompt_id"]
        return prompt_id, await self.until("executing", node=None, prompt_id=prompt_id)

    async def get(self, path: str) -> Any:
        answer = await self.http.get(path)
        assert answer.status_code == 200, answer.text
        return answer.json()


@asynccontextmanager
async def connected(
    server: Replayer, name: str = "client-a", first: dict[str, Any] | None = None
) -> AsyncIterator[Client]:
    async with (
        httpx.AsyncClient(base_url=server.url) as http,
        websockets.connect(f"{server.url.replace('http', 'ws')}/ws?clientId={name}", max_size=None) as ws,
    ):
        if first is not None:
            await ws.send(json.dumps(first))
        yield Client(http, ws, name)


def upload(server: Replayer, body: dict[str, Any]) -> None:
    """Puts the files that a recorded graph loads where it finds them."""
    for node in body["prompt"].values():
        if node["class_type"] == "LoadImage":
            server.folders.files[file_key(node["inputs"]["image"])] = made_picture("loaded")


@pytest.mark.parametrize(
    "name", ["01", "02", "03", "11", "12", "20", "30", "42", "43", "53", "54", "55", "56", "57", "58", "60"]
)
async def test_every_prompt_of_a_recording_is_answered_as_it_was(comfyui: Replayer, name: str) -> None:
    """Events in their order, and the history entry; the ids of the prompts are put in."""
    found = recording(name)
    async with connected(comfyui) as client:
        for body in prompts(found):
            if body.get("client_id") != "client-a":
                continue
            upload(comfyui, body)
            if name in ("02", "03"):  # they went on from where another recording ended
                comfyui.play(*(s for s in comfyui.library.scripts if s.prompt_id == body["prompt_id"]))
            ours, frames = await client.run(body | {"prompt_id": f"ours-{body['prompt_id']}"})
            told = [f for f in frames if f.get("type") not in ("status", "feature_flags") and "binary" not in f]
            told = [f for f in told if "prompt_id" in f["data"]]
            assert [comparable(f) for f in told[:-1]] == with_id(run_events(found, body["prompt_id"]), ours)
            try:
                entry = history(found, body["prompt_id"])
            except KeyError:
                continue
            given = await client.get(f"/history/{ours}")
            assert comparable(given[ours]["status"]) == with_id(comparable(entry["status"]), ours)
            assert comparable(given[ours]["outputs"]) == comparable(entry["outputs"])
            assert given[ours]["meta"] == entry["meta"]


def with_id(value: Any, prompt_id: str) -> Any:
    """The same with another prompt's id in place of the recorded one."""
    if isinstance(value, dict):
        return {k: prompt_id if k == "prompt_id" else with_id(each, prompt_id) for k, each in value.items()}
    return [with_id(each, prompt_id) for each in value] if isinstance(value, list) else value


async def test_a_whole_socket_is_told_in_the_recorded_order_with_status(comfyui: Replayer) -> None:
    [recorded_a, recorded_b] = [each["events"] for each in recording("01")["websockets"]]
    async with connected(comfyui, "client-b") as watcher, connected(comfyui) as client:
        _, frames = await client.run(prompts(recording("01"))[0])
        assert [comparable(f) for f in frames] == [comparable(f) for f in recorded_a]
        assert [await watcher.next() for _ in recorded_b] == recorded_b


async def test_files_of_a_recorded_graph_have_the_recorded_bytes(comfyui: Replayer) -> None:
    async with connected(comfyui) as client:
        await client.run(prompts(recording("01"))[0])
        answer = await client.http.get("/view", params={"filename": "anchor_00001_.png", "type": "output"})
        assert hashlib.sha256(answer.content).hexdigest().startswith("3755ff9b2072cd3a")
        assert answer.headers["content-type"] == "image/png"
        part = await client.http.get(str(answer.url), headers={"Range": "bytes=600-"})
        assert (part.status_code, part.content) == (206, answer.content[600:])
        assert (await client.http.get("/view?filename=none.png")).status_code == 404


async def test_a_graph_of_the_same_shape_runs_alike_and_its_files_never_overwrite_others(comfyui: Replayer) -> None:
    async with connected(comfyui) as client:
        body = prompts(recording("01"))[0]
        await client.run(body)
        other = json.loads(json.dumps(body).replace("3368601", "77")) | {"prompt_id": "other"}
        await client.run(other)
        entry = (await client.get("/history/other"))["other"]
        [image] = entry["outputs"]["4"]["images"]
        assert image["filename"] == "anchor_00002_.png"
        assert (await client.http.get("/view", params=image)).content.startswith(b"\x89PNG")


async def test_refusals_are_the_recorded_ones(comfyui: Replayer) -> None:
    async with httpx.AsyncClient(base_url=comfyui.url) as http:
        for exchange in recording("10")["exchanges"]:
            if exchange["response"]["status"] == 400 and exchange["request"]["json"]:
                answer = await http.post("/prompt", json=exchange["request"]["json"])
                assert answer.status_code == 400, exchange["request"]["note"]
                assert answer.json() == exchange["response"]["json"], exchange["request"]["note"]


@pytest.mark.parametrize(("asks", "code"), [(METADATA, 4), (None, 1)])
async def test_previews_come_with_metadata_to_those_who_asked(
    comfyui: Replayer, asks: dict[str, Any] | None, code: int
) -> None:
    body = next(b for b in prompts(recording("42")) if b["client_id"] == "client-d")
    async with connected(comfyui, first=asks) as client:
        _, frames = await client.run(body)
        binary = [f["binary"] for f in frames if "binary" in f]
        assert [struct.unpack(">I", b[:4]) for b in binary] == [(code,)] * 2
        assert b"\xff\xd8\xff" in binary[0]


async def test_text_frames_and_events_of_packs(comfyui: Replayer) -> None:
    async with connected(comfyui, "client-b") as watcher, connected(comfyui) as client:
        _, frames = await client.run(prompts(recording("43"))[0])
        assert [f["binary"] for f in frames if "binary" in f] == [bytes.fromhex("00000003000000013168c3a96c6c6f")]
        assert "anchor.custom" in [f.get("type") for f in frames]
        assert await watcher.until("anchor.broadcast")


async def test_interrupts_stop_what_runs_now_and_nothing_else(comfyui: Replayer) -> None:
    async with connected(comfyui) as client:
        comfyui.faults.hold_after = 7
        body = prompts(recording("24"))[0]
        running = asyncio.create_task(client.run(body))
        await comfyui.until_ran(1)
        await client.http.post("/prompt", json=body | {"prompt_id": "waits"})
        await client.http.post("/interrupt", json={"prompt_id": "waits"})
        assert not comfyui.interrupts
        queue = await client.get("/queue")
        assert [[item[1] for item in queue[k]] for k in queue] == [[body["prompt_id"]], ["waits"]]
        await client.http.post("/queue", json={"delete": ["waits"]})
        await client.http.post("/interrupt", json={"prompt_id": body["prompt_id"]})
        _, frames = await running
        assert "execution_interrupted" in [f["type"] for f in frames]
        status = (await client.get("/history"))[body["prompt_id"]]["status"]
        assert (status["status_str"], status["completed"]) == ("error", False)
        assert [message[0] for message in status["messages"]][-1] == "execution_interrupted"


async def test_a_recorded_interrupt_waits_for_somebody_to_ask(comfyui: Replayer) -> None:
    async with connected(comfyui) as client:
        [body] = prompts(recording("21"))
        running = asyncio.create_task(client.run(body))
        await comfyui.until_ran(1)
        while not (await client.get("/queue"))["queue_running"]:
            pass
        await client.http.post("/interrupt")
        _, frames = await running
        assert frames[-3]["type"] == "execution_interrupted"


async def test_a_restart_forgets_queue_and_history_on_the_same_port(comfyui: Replayer) -> None:
    async with connected(comfyui) as client:
        body = prompts(recording("01"))[0]
        ours, _ = await client.run(body)
        await comfyui.crash()
        with pytest.raises(websockets.ConnectionClosed):
            await client.next()
        with pytest.raises(httpx.ConnectError):
            await client.http.get("/queue")
        await comfyui.come_back()
        assert await client.get(f"/history/{ours}") == {}
        assert await client.get("/queue") == {"queue_running": [], "queue_pending": []}


async def test_a_closing_socket_unregisters_the_new_one_of_its_id(comfyui: Replayer) -> None:
    async with connected(comfyui, "dup") as old, connected(comfyui, "dup") as new:
        assert (await new.next())["data"]["sid"] == "dup"
        await old.ws.close()
        while comfyui.sockets.clients:
            await asyncio.sleep(0.005)
        await new.http.post("/prompt", json=prompts(recording("01"))[0] | {"client_id": "dup"})
        await comfyui.until_ran(1)
        while not (await new.get("/history")):
            pass
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(new.ws.recv(), 0.1)


async def test_a_socket_that_comes_again_is_told_the_node(comfyui: Replayer) -> None:
    comfyui.faults.hold_after = 7
    async with connected(comfyui) as first:
        await first.http.post("/prompt", json=prompts(recording("24"))[0])
        await first.until("executing")
    async with connected(comfyui) as again:
        assert (await again.next())["type"] == "status"
        greeting = await again.next()
        assert (greeting["type"], list(greeting["data"])) == ("executing", ["node"])


async def test_faults_fall_where_they_were_asked_for(comfyui: Replayer) -> None:
    faults = comfyui.faults
    body = prompts(recording("01"))[0]
    async with connected(comfyui) as client:
        faults.history_late = 1
        faults.cut_views = [100]
        faults.answers = {"/queue": [500]}
        faults.full_disk = True
        ours, _ = await client.run(body)
        assert await client.get(f"/history/{ours}") == {}
        assert ours in await client.get(f"/history/{ours}")
        with pytest.raises(httpx.RemoteProtocolError):
            await client.http.get("/view?filename=anchor_00001_.png")
        assert (await client.http.get("/view?filename=anchor_00001_.png")).status_code == 200
        assert (await client.http.get("/queue")).status_code == 500
        assert (await client.http.get("/queue")).status_code == 200
        assert (await client.http.post("/upload/image", files={"image": ("a.png", b"x")})).status_code == 500
        comfyui.wire.freeze()
        with pytest.raises(httpx.ReadTimeout):
            await client.http.get("/queue", timeout=0.1)
        comfyui.wire.thaw()
        faults.drop_sockets_after = 5
        with pytest.raises(websockets.ConnectionClosed):
            await client.run(body | {"prompt_id": "dropped"})
        while "dropped" not in await client.get("/history"):  # the prompt itself goes on
            pass


async def test_uploads_are_renamed_or_replace_as_recorded(comfyui: Replayer) -> None:
    async def send(content: bytes, **fields: str) -> dict[str, str]:
        answer = await http.post("/upload/image", files={"image": ("up.png", content)}, data=fields)
        assert answer.status_code == 200
        told: dict[str, str] = answer.json()
        return told

    async with httpx.AsyncClient(base_url=comfyui.url) as http:
        assert await send(b"one") == {"name": "up.png", "subfolder": "", "type": "input"}
        assert (await send(b"one"))["name"] == "up.png"
        assert (await send(b"two"))["name"] == "up (1).png"
        assert (await send(b"two", overwrite="true"))["name"] == "up.png"
        assert (await send(b"x", subfolder="deep/er", type="temp"))["subfolder"] == "deep/er"
        offered = (await http.get("/object_info/LoadImage")).json()["LoadImage"]["input"]["required"]["image"][0]
        assert offered == ["up (1).png", "up.png"]


async def test_an_old_version_knows_no_ids_no_states_and_no_features() -> None:
    async with Replayer(OLD) as server, connected(server, first=METADATA) as client:
        server.faults.hold_after = 6
        body = prompts(recording("24"))[0]
        answer = await client.http.post("/prompt", json=body | {"client_id": client.name})
        ours = answer.json()["prompt_id"]
        assert ours != body["prompt_id"]
        await client.until("executing")
        await client.http.post("/interrupt", json={"prompt_id": "another"})
        frames = await client.until("executing", node=None)
        assert "execution_interrupted" in [f["type"] for f in frames]
        assert "progress_state" not in [f["type"] for f in frames]
        assert (await client.http.get("/features")).status_code == 404
        assert (await client.get("/system_stats"))["system"]["comfyui_version"] == "0.3.40"
