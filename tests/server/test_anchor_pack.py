"""A server with a node pack behaves as a real ComfyUI did with the same pack: its recorded requests, sent again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.server.test_events import kinds, recorded, watch
from tests.support.recordings import comparable, recording
from tests.support.replay import clean, of_run, recorded_runs, replay
from tests.support.tree import Tree, eventually, serving

PACKS = Path(__file__).parents[1] / "data" / "packs"


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tree]:
    with serving(tmp_path_factory.mktemp("packed") / "data", "--custom-nodes", str(PACKS)) as tree:
        eventually(lambda: tree.get("/object_info/ApTypes"), seconds=60, what="the pack's nodes are offered")
        yield tree


def test_object_info_of_a_packs_classes_is_what_comfyui_tells(packed: Tree) -> None:
    told = {
        name: info
        for exchange in recording("33")["exchanges"]
        if exchange["request"]["path"].startswith("/object_info/Ap")
        for name, info in exchange["response"]["json"].items()
    }
    assert told.keys() == {"ApTypes", "ApLazy"}
    assert {name: packed.get(f"/object_info/{name}")[name] for name in told} == told


@pytest.mark.parametrize("name", ["10", "13"])
def test_workflows_with_faults_are_refused_as_comfyui_refuses_them(packed: Tree, name: str) -> None:
    """Those with a class of the pack. What ComfyUI itself stumbles over (500) is left out."""
    asked = 0
    for exchange in recording(name)["exchanges"]:
        body, expected = exchange["request"].get("json"), exchange["response"]
        if expected["status"] != 400 or "Ap" not in str(body):
            continue
        answer = packed.http.post("/prompt", json=body)
        assert (answer.status_code, faults(answer.json())) == (400, faults(expected["json"])), body
        asked += 1
    assert asked >= 3


@pytest.mark.parametrize("name", ["11", "12", "20", "42", "43", "50", "51", "52", "53", "54", "55", "56", "57", "58"])
async def test_a_run_with_the_pack_tells_what_comfyui_tells(packed: Tree, name: str) -> None:
    transcript = recording(name)
    packed.http.post("/free", json={"free_memory": True})
    seen, entries = await replay(packed, transcript)
    for prompt_id, expected in recorded_runs(transcript).items():
        assert of_run(seen[prompt_id]) == of_run(expected), prompt_id
    for exchange in transcript["exchanges"]:
        if exchange["request"]["path"].startswith("/history/"):
            for prompt_id, entry in exchange["response"]["json"].items():
                assert told_of(entries[prompt_id]) == told_of(entry)


async def test_an_interrupted_run_with_the_pack_tells_what_comfyui_tells(packed: Tree) -> None:
    _, expected = recorded("21_interrupt")
    body = recording("21")["exchanges"][0]["request"]["json"]
    seen = await watch(packed, body, interrupt_at=2)
    ends = ["executing", "STEPS", "execution_interrupted", "status", "executing"]
    assert kinds(seen)[-5:] == kinds(expected)[-5:] == ends
    mine, theirs = (
        next(f["data"] for f in frames if f["type"] == "execution_interrupted") for frames in (seen, expected)
    )
    assert {**mine, "timestamp": 0} == {**theirs, "timestamp": 0}


def test_a_packs_scripts_are_listed_and_served(packed: Tree) -> None:
    assert packed.get("/extensions") == ["/extensions/anchor_pack/anchor.js", "/extensions/classic-tools/tools.js"]
    for prefix in ("", "/api"):
        answer = packed.http.get(f"{prefix}/extensions/anchor_pack/anchor.js")
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/javascript")
        assert answer.headers["cache-control"] == "no-cache"
        assert answer.text == (PACKS / "anchor_pack" / "web" / "anchor.js").read_text()
    assert packed.http.get("/extensions/anchor_pack/../__init__.py").status_code == 404
    assert packed.http.get("/extensions/anchor_pack/__init__.py").status_code == 404


def test_files_that_a_pack_writes_are_the_job_s_and_never_take_anothers_name(packed: Tree) -> None:
    seen: list[tuple[str, bytes]] = []
    for color in (0x100000, 0x200000):
        image = {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 4, "batch_size": 1, "color": color}}
        own = {"class_type": "CpOwnFile", "inputs": {"images": ["1", 0], "text": str(color)}}
        shown = {"class_type": "CpPreview", "inputs": {"images": ["1", 0]}}
        prompt_id = packed.post({"1": image, "2": own, "3": shown})
        outputs = packed.wait_history([prompt_id])[prompt_id]["outputs"]
        for file in outputs["2"]["images"] + outputs["3"]["images"]:
            answer = packed.http.get("/view", params=file)
            assert answer.status_code == 200
            seen.append((f"{file['type']}/{file['subfolder']}/{file['filename']}", answer.content))
    assert len({name for name, _ in seen}) == len({content for _, content in seen}) == 4 + 2
    assert [name for name, _ in seen if name.startswith("output/own/8_")] == [
        "output/own/8_00001_.png",
        "output/own/8_00002_.png",
    ]
    assert (packed.data_dir / "output" / "own" / "8_00002_.png").read_bytes() in {content for _, content in seen}


def faults(answer: dict[str, Any]) -> Any:
    """A refusal, whose faults of one node come in no fixed order."""
    lines = sorted(answer["error"]["details"].splitlines())
    return comparable({**answer, "error": {**answer["error"], "details": lines}})


def told_of(entry: dict[str, Any]) -> Any:
    """A history entry without times and without the queue's numbers."""
    return clean("", comparable({name: entry[name] for name in ("outputs", "meta", "status")}))
