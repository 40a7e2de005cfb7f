"""ComfyEngine at whole servers: input files go up, and the files of every output come down."""

from __future__ import annotations

import asyncio
import io
import json
import random
import re
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageChops, ImageOps

from limner.enginehost.protocol import RunRequest
from limner.worker.engines.comfyui.adapter import ComfyConfig, ComfyEngine
from limner.worker.engines.comfyui.address import Address
from limner.worker.engines.port import RunEnded
from tests.contract.comfyui.driving import driving, recorded
from tests.support.replayer import Replayer
from tests.support.tree import Tree, serving
from tests.unit.worker.comfyui.fakes import RecordingSink, digits

PHOTO, MASK, EARLIER = "Bücher/50% & mehr #1.png", "clipspace/mask [1].png [input]", "sub/a_00001_.png [output]"

UPLOADED = re.compile(r"limner[/\\_]+[0-9a-f]{32}")
"""What only the instance calls a file."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tree]:
    with serving(tmp_path_factory.mktemp("instance") / "data") as tree:
        yield tree


@pytest.fixture
async def engine(server: Tree) -> AsyncIterator[ComfyEngine]:
    engine = ComfyEngine(Address.parse(server.base), ComfyConfig(worker="files-test"))
    await engine.start()
    try:
        yield engine
    finally:
        await engine.close()


def picture(seed: int, size: tuple[int, int] = (24, 16), mode: str = "RGB") -> bytes:
    """A PNG of noise: no two seeds look alike, and it cannot be made smaller."""
    pixels = random.Random(seed).randbytes(size[0] * size[1] * len(mode))
    file = io.BytesIO()
    Image.frombytes(mode, size, pixels).save(file, "PNG", compress_level=1)
    return file.getvalue()


def alike(data: bytes, other: bytes, *, inverted: bool = False) -> bool:
    """Whether both show the same, or the one the other's negative, but for the last bit that is cut off in saving."""
    one, two = (Image.open(io.BytesIO(each)).convert("RGB") for each in (data, other))
    apart = ImageChops.difference(one, ImageOps.invert(two) if inverted else two)
    return one.size == two.size and max(apart.tobytes()) <= 1


class Job:
    """One job as a supervisor hands it over, and all that came of it."""

    def __init__(self, folder: Path, number: int, workflow: dict[str, Any], inputs: dict[str, bytes]) -> None:
        self.sink = RecordingSink()
        folder = folder / str(number)
        folder.mkdir()
        paths = {}
        for position, (reference, data) in enumerate(inputs.items()):
            path = folder / f"in-{position}"
            path.write_bytes(data)
            paths[reference] = str(path)
        self.request = RunRequest(
            run=number,
            prompt_id=f"theirs-{number}",
            tenant="default",
            workflow=workflow,
            outputs=[node for node, box in workflow.items() if box["class_type"] in ("SaveImage", "PreviewImage")],
            inputs=paths,
            folder=str(folder / "out"),
            job=f"{folder.parent.name}-{number}",
            token="token",
        )

    async def run(self, engine: ComfyEngine) -> RunEnded:
        self.ended = await engine.run(self.request, self.sink)
        return self.ended

    @property
    def files(self) -> dict[tuple[str, str, str], bytes]:
        """What came down, by the names under which it is kept."""
        told = [*self.ended.files, *(file for event in self.sink.events for file in event.files)]
        return {(f["type"], f["subfolder"], f["filename"]): Path(f["path"]).read_bytes() for f in told}

    def image(self, node: str) -> tuple[dict[str, str], bytes]:
        """The first picture that a node shows, and its bytes."""
        name = self.ended.outputs[node]["images"][0]
        return name, self.files[name["type"], name["subfolder"], name["filename"]]


def workflow(prefix: str) -> dict[str, Any]:
    """Two files in; two saved and two previewed pictures out."""
    return {
        "1": {"class_type": "LoadImage", "inputs": {"image": PHOTO}},
        "2": {"class_type": "LoadImage", "inputs": {"image": MASK}},
        "3": {"class_type": "ImageInvert", "inputs": {"image": ["1", 0]}},
        "4": {"class_type": "SaveImage", "inputs": {"images": ["3", 0], "filename_prefix": f"größer/{prefix}"}},
        "5": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": prefix}},
        "6": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
        "7": {"class_type": "PreviewImage", "inputs": {"images": ["3", 0]}},
    }


async def test_files_go_up_and_those_of_every_output_come_down(engine: ComfyEngine, tmp_path: Path) -> None:
    photo, mask = picture(1), picture(2, mode="RGBA")
    job = Job(tmp_path, 1, workflow("all"), {PHOTO: photo, MASK: mask})
    ended = await job.run(engine)
    assert ended.outcome == "succeeded", ended.end
    assert sorted(ended.outputs) == ["4", "5", "6", "7"]

    saved, data = job.image("4")
    assert saved == {"filename": "all_00001_.png", "subfolder": "größer", "type": "output"}
    assert alike(data, photo, inverted=True)
    assert alike(job.image("5")[1], mask)
    for node, inverted in (("6", False), ("7", True)):
        name, data = job.image(node)
        assert alike(data, photo, inverted=inverted)
        assert (name["type"], name["subfolder"]) == ("temp", digits(data))
    assert len(job.files) == 4
    assert not UPLOADED.search(json.dumps([ended.outputs, [event.data for event in job.sink.events]]))
    assert job.sink.warnings == []


async def test_an_input_of_the_same_name_and_other_bytes_is_another(engine: ComfyEngine, tmp_path: Path) -> None:
    mask = picture(2, mode="RGBA")
    for number, photo in ((1, picture(3)), (2, picture(4)), (3, picture(3))):
        job = Job(tmp_path, number, workflow("same"), {PHOTO: photo, MASK: mask})
        await job.run(engine)
        assert alike(job.image("4")[1], photo, inverted=True)
        assert alike(job.image("6")[1], photo)


async def test_what_the_instance_has_cached_comes_down_again(engine: ComfyEngine, tmp_path: Path) -> None:
    inputs = {PHOTO: picture(5), MASK: picture(6)}
    first, second = (Job(tmp_path, number, workflow("again"), inputs) for number in (1, 2))
    await first.run(engine)
    await second.run(engine)
    assert [event.data["cached"] for event in second.sink.events if event.kind == "NodeOutput"] == [True] * 4
    assert second.ended.outputs == first.ended.outputs
    assert second.files == first.files


async def test_a_large_file_passes_both_ways(engine: ComfyEngine, tmp_path: Path) -> None:
    large = picture(7, (1400, 1400))
    assert len(large) > 5_000_000
    graph = {
        "1": {"class_type": "LoadImage", "inputs": {"image": EARLIER}},
        "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
    }
    job = Job(tmp_path, 1, graph, {EARLIER: large})
    await job.run(engine)
    assert alike(job.image("2")[1], large)


async def test_a_fault_names_the_file_as_its_caller_does(engine: ComfyEngine, tmp_path: Path) -> None:
    job = Job(tmp_path, 1, workflow("bad"), {PHOTO: b"no picture", MASK: picture(8)})
    ended = await job.run(engine)
    assert (ended.outcome, ended.end["code"], ended.end["retryable"]) == ("failed", "node_error", False)
    assert ended.end["node"]["real"] == "1"
    assert PHOTO in ended.end["exception_message"]
    assert not UPLOADED.search(json.dumps(ended.end))


async def test_previews_stay_on_the_instance_where_nobody_wants_them(server: Tree, tmp_path: Path) -> None:
    engine = ComfyEngine(Address.parse(server.base), ComfyConfig(worker="files-test", keep_temp=False))
    await engine.start()
    try:
        job = Job(tmp_path, 1, workflow("quiet"), {PHOTO: picture(9), MASK: picture(10)})
        await job.run(engine)
    finally:
        await engine.close()
    assert {kind for kind, _, _ in job.files} == {"output"}
    assert len(job.files) == 2


async def test_a_prompt_that_is_taken_up_again_keeps_its_files(comfyui: Replayer, tmp_path: Path) -> None:
    """It may read them at this moment, so they are not written again."""
    comfyui.faults.hold_after = 6
    file = tmp_path / "up.png"
    file.write_bytes(picture(1))
    async with driving(comfyui, tmp_path) as driven:
        request = driven.request(recorded("30"), inputs={"up.png": str(file)})
        running = asyncio.create_task(driven.engine.run(request, RecordingSink()))
        await comfyui.until_ran(1)
        running.cancel()
        await asyncio.wait({running})
    async with driving(comfyui, tmp_path) as driven:
        running = asyncio.create_task(driven.engine.run(replace(request, resumed=True), RecordingSink()))
        comfyui.faults.release()
        assert (await running).outcome == "succeeded"
    assert (len(comfyui.ran), comfyui.count("POST", "/upload")) == (1, 1)
