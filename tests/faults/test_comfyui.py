"""Limner in front of two instances, as whole process trees: whatever is killed, each job ends once, with its bytes."""

from __future__ import annotations

import asyncio
import io
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import websockets
from PIL import Image

from tests.support.comfy_pair import Front, Instance, direct, files, fronting, instances
from tests.support.recordings import comparable, history, prompts, recording, run_events
from tests.support.replayer import Replayer
from tests.support.tree import eventually, trivial, txt2img

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

LONG = 120  # sampler steps of the two jobs that run while something is killed: seconds, not milliseconds
GRAPHS = [txt2img(steps=LONG, seed=n) for n in (1, 2)] + [trivial(n, prefix="fault") for n in range(18)]


@dataclass(frozen=True, slots=True)
class Pair:
    a: Instance
    b: Instance
    expected: list[dict[str, bytes]]  # what each graph makes, by node, when the first instance is asked directly

    def fresh(self) -> None:
        """Both run, and have no result of an earlier test in their caches."""
        for each in (self.a, self.b):
            each.again()
            each.http.post("/free", json={"free_memory": True, "unload_models": False})

    def attempts(self) -> Counter[str]:
        return self.a.attempts() + self.b.attempts()


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with instances(tmp_path_factory.mktemp("instances")) as (a, b):
        yield Pair(a, b, [direct(a, graph) for graph in GRAPHS])


@pytest.fixture
def pair(started: Pair) -> Pair:
    started.fresh()
    return started


@pytest.fixture
def front(pair: Pair, tmp_path: Path) -> Iterator[Front]:
    with fronting(tmp_path / "front", [pair.a.base, pair.b.base]) as tree:
        yield tree


def load(front: Front, pair: Pair) -> list[str]:
    """Twenty jobs, of which the two long ones run, one on each instance."""
    ids = [front.post(graph, client_id="faults") for graph in GRAPHS]
    eventually(lambda: len(pair.a.running()) == len(pair.b.running()) == 1, seconds=60, what="both instances run a job")
    return ids


def check(front: Front, pair: Pair, ids: list[str]) -> None:
    """Each job ended exactly once with the bytes of a direct run, under a name of its own; nothing is left over."""
    entries = front.wait_history(ids, seconds=120)
    names: list[str] = []
    for prompt_id, expected in zip(ids, pair.expected, strict=True):
        entry = entries[prompt_id]
        assert entry["status"]["status_str"] == "success", entry["status"]
        assert [message[0] for message in entry["status"]["messages"]].count("execution_success") == 1
        assert files(front, entry) == expected
        names += [image["filename"] for ui in entry["outputs"].values() for image in ui["images"]]
    assert len(set(names)) == len(names) == len(GRAPHS), "a file name was given twice"
    assert front.get("/queue") == {"queue_running": [], "queue_pending": []}
    for each in (pair.a, pair.b):
        eventually(
            lambda each=each: each.get("/queue") == {"queue_running": [], "queue_pending": []},  # type: ignore[misc]
            seconds=30,
            what=f"nothing is left on {each.base}",
        )


def test_nothing_is_lost_when_an_instance_is_killed_and_started_again(front: Front, pair: Pair) -> None:
    ids = load(front, pair)
    pair.a.kill_everything()
    pair.a.start()
    check(front, pair, ids)


def test_nothing_is_lost_when_an_instance_is_killed_and_stays_away(front: Front, pair: Pair) -> None:
    ids = load(front, pair)
    pair.b.kill_everything()
    entries = front.wait_history(ids, seconds=120)
    assert {entry["status"]["status_str"] for entry in entries.values()} == {"success"}
    pair.b.start()


def test_nothing_is_lost_when_both_instances_are_killed_and_started_again(front: Front, pair: Pair) -> None:
    ids = load(front, pair)
    for each in (pair.a, pair.b):
        each.kill_everything()
    for each in (pair.a, pair.b):
        each.start(ready=False)
    check(front, pair, ids)


def test_a_supervisor_that_is_killed_adopts_its_run_and_no_prompt_runs_twice(front: Front, pair: Pair) -> None:
    before = pair.attempts()
    ids = load(front, pair)
    front.supervisor_of(pair.a).kill()
    check(front, pair, ids)
    jobs = front.jobs()
    ran = pair.attempts() - before
    assert ran == Counter(jobs[each] for each in ids)


def test_nothing_is_lost_and_nothing_runs_twice_when_the_gateway_is_killed(front: Front, pair: Pair) -> None:
    before = pair.attempts()
    ids = load(front, pair)
    front.kill("gateway")
    check(front, pair, ids)
    assert pair.attempts() - before == Counter(front.jobs()[each] for each in ids)


def test_nothing_is_lost_when_the_whole_front_is_killed(front: Front, pair: Pair) -> None:
    ids = load(front, pair)
    front.kill_everything()
    front.start()
    check(front, pair, ids)


def test_an_interrupt_stops_the_prompt_that_it_names_on_its_instance(front: Front, pair: Pair) -> None:
    long, other = (front.post(graph) for graph in GRAPHS[:2])
    eventually(lambda: pair.a.running() and pair.b.running(), seconds=60, what="both run")
    front.http.post("/interrupt", json={"prompt_id": long})
    entries = front.wait_history([long, other], seconds=60)
    assert [message[0] for message in entries[long]["status"]["messages"]][-1] == "execution_interrupted"
    assert files(front, entries[other]) == pair.expected[1]
    waiting = [front.post(graph) for graph in GRAPHS]
    front.http.post("/queue", json={"delete": waiting[2:]})
    front.http.post("/interrupt", json={"prompt_id": waiting[0]})
    front.http.post("/interrupt", json={"prompt_id": waiting[1]})
    eventually(
        lambda: front.get("/queue") == {"queue_running": [], "queue_pending": []}, seconds=60, what="all is stopped"
    )
    assert not pair.a.running()
    assert not pair.b.running()


def test_a_job_with_an_input_image_gets_it_and_no_other(front: Front, pair: Pair) -> None:
    graph = {
        "1": {"class_type": "LoadImage", "inputs": {"image": "in.png"}},
        "2": {"class_type": "ImageInvert", "inputs": {"image": ["1", 0]}},
        "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "inverted"}},
    }
    for color in ((10, 20, 30), (40, 50, 60)):  # under the same name, which the second upload takes over
        picture = io.BytesIO()
        Image.new("RGB", (8, 8), color).save(picture, "PNG")
        form = {"image": ("in.png", picture.getvalue())}
        front.http.post("/upload/image", files=form, data={"overwrite": "true"}).raise_for_status()
        made = files(front, front.wait_history([prompt_id := front.post(graph)])[prompt_id])
        with Image.open(io.BytesIO(made["3.0"])) as image:
            inverted = tuple(255 - each for each in color)
            assert image.convert("RGB").getcolors() == [(64, inverted)]


# The whole over a ComfyUI that is no Limner: the recorded one


@asynccontextmanager
async def over(replayer: Replayer, data_dir: Path) -> AsyncIterator[Front]:
    """A front whose only instance is the replayed ComfyUI, which answers from this test's own loop."""
    context = fronting(data_dir, [replayer.url])
    front = await asyncio.to_thread(context.__enter__)
    try:
        await asyncio.to_thread(knows_its_nodes, front)
        yield front
    finally:
        await asyncio.to_thread(context.__exit__, None, None, None)


def knows_its_nodes(front: Front) -> None:
    """The instance's own nodes are there a moment after the front is."""
    eventually(lambda: "ApShow" in (front.get("/object_info") or {}), seconds=30, what="the pack's nodes are known")


async def test_a_client_of_limner_sees_what_the_recorded_client_saw_of_comfyui_itself(tmp_path: Path) -> None:
    async with Replayer() as replayer, over(replayer, tmp_path / "front") as front:
        for name in ("01", "20", "43", "60"):
            body = prompts(recording(name))[0]
            frames, prompt_id = await followed(front, body)
            told = [comparable(frame) for frame in frames if frame.get("data", {}).get("prompt_id") == prompt_id]
            expected = run_events(recording(name), body["prompt_id"])
            assert [without_ids(each) for each in told] == [without_ids(each) for each in expected]
            entry = (await asyncio.to_thread(front.wait_history, [prompt_id]))[prompt_id]
            try:
                there = history(recording(name), body["prompt_id"])
            except KeyError:
                continue
            assert entry["status"]["status_str"] == there["status"]["status_str"]
            assert comparable(entry["outputs"]) == comparable(there["outputs"])
        assert not replayer.unknown
        assert len(replayer.ran) == 4
        assert not replayer.memory.history  # what was accepted is cleared away


async def followed(front: Front, body: dict[str, Any]) -> tuple[list[dict[str, Any]], str]:
    """Sends a prompt as a client that listens: every text frame of it, and its id."""
    async with websockets.connect(f"{front.base.replace('http', 'ws')}/ws?clientId=client-a", max_size=None) as ws:
        prompt_id = await asyncio.to_thread(front.post, body["prompt"], client_id="client-a")
        frames: list[dict[str, Any]] = []
        async with asyncio.timeout(60):
            async for frame in ws:
                if isinstance(frame, bytes):
                    continue
                frames.append(json.loads(frame))
                if frames[-1]["type"] == "executing" and frames[-1]["data"]["node"] is None:
                    return frames[:-1], prompt_id
    raise AssertionError("the socket ended before the prompt did")


def without_ids(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_ids(each) for key, each in value.items() if key != "prompt_id"}
    return [without_ids(each) for each in value] if isinstance(value, list) else value


async def test_a_comfyui_that_restarts_in_mid_run_costs_the_client_nothing(tmp_path: Path) -> None:
    async with Replayer() as replayer, over(replayer, tmp_path / "front") as front:
        replayer.faults.hold_after = 6
        body = prompts(recording("01"))[0]
        prompt_id = await asyncio.to_thread(front.post, body["prompt"])
        await replayer.until_ran(1, seconds=30)
        await replayer.restart()
        replayer.faults.release()
        entry = (await asyncio.to_thread(front.wait_history, [prompt_id]))[prompt_id]
        assert entry["status"]["status_str"] == "success"
        assert len(replayer.ran) == 2
        [made] = (await asyncio.to_thread(files, front, entry)).values()
        assert made == replayer.folders.files["output", "", "anchor_00001_.png"]


async def test_a_killed_supervisor_takes_its_prompt_up_again_on_a_comfyui(tmp_path: Path) -> None:
    async with Replayer() as replayer, over(replayer, tmp_path / "front") as front:
        replayer.faults.hold_after = 6
        prompt_id = await asyncio.to_thread(front.post, prompts(recording("01"))[0]["prompt"])
        await replayer.until_ran(1, seconds=30)
        await asyncio.to_thread(front.kill, "supervisor")
        async with asyncio.timeout(60):
            while replayer.sockets.opened.count(str(replayer.ran[0].client)) < 2:  # somebody listens to it again
                await asyncio.sleep(0.02)
        replayer.faults.release()
        entry = (await asyncio.to_thread(front.wait_history, [prompt_id]))[prompt_id]
        assert entry["status"]["status_str"] == "success"
        assert len(replayer.ran) == 1
        assert replayer.interrupts == []
        [made] = (await asyncio.to_thread(files, front, entry)).values()
        assert made == replayer.folders.files["output", "", "anchor_00001_.png"]


async def test_a_refusal_that_only_the_comfyui_could_know_reaches_the_caller_whole(tmp_path: Path) -> None:
    """A custom node's own validation: Limner cannot know it, and carries the answer on."""
    [exchange] = [x for x in recording("10")["exchanges"] if x["request"].get("note") == "custom validation: text"]
    async with Replayer() as replayer, over(replayer, tmp_path / "front") as front:
        prompt_id = await asyncio.to_thread(front.post, exchange["request"]["json"]["prompt"])
        entry = (await asyncio.to_thread(front.wait_history, [prompt_id]))[prompt_id]
        assert entry["status"]["status_str"] == "error"
        name, data = entry["status"]["messages"][-1]
        assert name == "execution_error"
        assert data["node_errors"] == exchange["response"]["json"]["node_errors"]
        assert data["error"] == exchange["response"]["json"]["error"]
        assert "reason given by the node" in data["exception_message"]
        assert replayer.ran == []


async def test_previews_and_input_files_pass_through(tmp_path: Path) -> None:
    async with Replayer() as replayer, over(replayer, tmp_path / "front") as front:
        body = next(b for b in prompts(recording("42")) if b["client_id"] == "client-d")
        pictures = await previews(front, body)
        assert [picture[:4] for picture in pictures] == [b"\0\0\0\4"] * 2
        content = io.BytesIO()
        Image.new("RGB", (4, 3), (1, 2, 3)).save(content, "PNG")
        form = {"image": ("up.png", content.getvalue())}
        await asyncio.to_thread(lambda: front.http.post("/upload/image", files=form).raise_for_status())
        prompt_id = await asyncio.to_thread(front.post, prompts(recording("30"))[0]["prompt"])
        entry = (await asyncio.to_thread(front.wait_history, [prompt_id]))[prompt_id]
        assert entry["status"]["status_str"] == "success", entry["status"]
        assert entry["outputs"]["2"]["images"][0]["subfolder"] == "loaded"
        assert len(await asyncio.to_thread(files, front, entry)) == 2
        assert content.getvalue() in replayer.folders.files.values()
        assert ("input", "", "up.png") not in replayer.folders.files


async def previews(front: Front, body: dict[str, Any]) -> list[bytes]:
    """The binary frames that a client who asks for metadata gets of a prompt."""
    found: list[bytes] = []
    async with websockets.connect(f"{front.base.replace('http', 'ws')}/ws?clientId=client-d", max_size=None) as ws:
        await ws.send('{"type": "feature_flags", "data": {"supports_preview_metadata": true}}')
        await asyncio.to_thread(front.post, body["prompt"], client_id="client-d")
        async with asyncio.timeout(60):
            async for frame in ws:
                if isinstance(frame, bytes):
                    found.append(frame)
                elif '"executing"' in frame and json.loads(frame)["data"]["node"] is None:
                    return found
    raise AssertionError("the socket ended before the prompt did")
