"""What the server says of itself."""

from __future__ import annotations

import json
from typing import Any

import pytest

from limner.bus.messages import Heartbeat
from limner.comfy.dialect.info import COMFYUI_VERSION, FOLDERS, system_stats
from tests.contract.dialect.stack import Stack, load_workflow
from tests.unit.comfy.recordings import TRANSCRIPTS

RECORDED = {
    each["request"]["path"]: each["response"]
    for each in json.loads((TRANSCRIPTS / "33_info_routes.json").read_text())["exchanges"]
    if each["request"]["method"] == "GET"
}


async def get(gateway: Stack, path: str) -> Any:
    answer = await gateway.http.get(path)
    assert answer.status_code == 200, path
    return answer.json()


async def test_features_and_folders_are_as_recorded(gateway: Stack) -> None:
    assert await get(gateway, "/features") == RECORDED["/features"]["json"]
    assert list(FOLDERS) == [each for each in RECORDED["/models"]["json"] if each in FOLDERS]
    assert (await get(gateway, "/models"))[: len(FOLDERS)] == list(FOLDERS)


async def test_system_stats_has_every_recorded_member(gateway: Stack) -> None:
    expected = RECORDED["/system_stats"]["json"]
    told = await get(gateway, "/system_stats")
    assert told["system"].keys() == {*expected["system"], "limner_version"}
    (device,) = told["devices"]
    assert device.keys() == expected["devices"][0].keys()
    assert (device["type"], device["index"]) == ("cpu", None)
    assert told["system"]["ram_total"] > told["system"]["ram_free"] > 0


async def test_devices_and_versions_come_from_the_workers(gateway: Stack) -> None:
    device = {"name": "cuda:0 X", "type": "cuda", "index": 0, "vram_total": 4, "vram_free": 3}
    beat = Heartbeat(
        worker="w",
        pool="default",
        state="idle",
        version="1",
        catalogue="",
        devices=[device],
        python_version="3.99",
        pytorch_version="2.99",
    )
    await gateway.services.bus.put_worker(beat)
    told = await get(gateway, "/system_stats")
    assert told["devices"] == [device]
    assert (told["system"]["python_version"], told["system"]["pytorch_version"]) == ("3.99", "2.99")


def beat(worker: str, **members: Any) -> Heartbeat:
    told = {"pool": "default", "state": "idle", "version": "1", "catalogue": ""}
    return Heartbeat(worker=worker, **{**told, **members})


@pytest.mark.parametrize(
    ("engines", "version"),
    [
        ([], COMFYUI_VERSION),
        ([("limner", "")], COMFYUI_VERSION),
        ([("comfyui", "0.3.70")], "0.3.70"),
        ([("comfyui", "0.10.2"), ("comfyui", "0.9.12")], "0.9.12"),
        ([("comfyui", "0.3.70"), ("limner", "")], COMFYUI_VERSION),
        ([("comfyui", "")], COMFYUI_VERSION),
        ([("comfyui", "v0.4.0-12-gabc"), ("comfyui", "0.3.64")], "0.3.64"),
    ],
)
def test_system_stats_tells_the_oldest_comfyui_where_all_workers_drive_one(
    engines: list[tuple[str, str]], version: str
) -> None:
    devices = [{"name": str(number)} for number in range(len(engines))]
    workers = [
        beat(f"w{number}", engine=engine, engine_version=told, devices=[devices[number]])
        for number, (engine, told) in enumerate(engines)
    ]
    told = system_stats(workers)
    assert told["system"]["comfyui_version"] == version
    assert told["devices"] == devices or not workers


async def test_object_info_is_whole_and_by_class(gateway: Stack) -> None:
    everything = await get(gateway, "/object_info")
    assert {"KSampler", "SaveImage", "LoadImage"} <= everything.keys()
    assert await get(gateway, "/api/object_info/KSampler") == {"KSampler": everything["KSampler"]}
    assert await get(gateway, "/object_info/Nope") == {}


async def test_object_info_offers_the_callers_files_as_soon_as_they_are_there(gateway: Stack) -> None:
    async def offered(path: str) -> Any:
        return (await get(gateway, path))["LoadImage"]["input"]["required"]["image"][0]

    assert await offered("/object_info") == []
    for name in ("b.png", "a.png"):
        await gateway.http.post("/upload/image", files={"image": (name, name.encode())})
        assert name in await offered("/object_info")
    assert await offered("/object_info/LoadImage") == ["a.png", "b.png"]


async def test_object_info_offers_what_an_input_takes_and_a_prompt_may_name_any_file(gateway: Stack) -> None:
    for name, subfolder in (("a.webp", ""), ("a.txt", ""), ("b.png", "sub")):
        form = {"subfolder": subfolder}
        await gateway.http.post("/upload/image", files={"image": (name, name.encode())}, data=form)
    for info in (await get(gateway, "/object_info"), await get(gateway, "/object_info/LoadImage")):
        assert info["LoadImage"]["input"]["required"]["image"][0] == ["a.webp"]
    for name in ("a.webp", "a.txt", "sub/b.png"):
        await gateway.post(load_workflow(name))


async def test_models_by_kind(gateway: Stack) -> None:
    assert "limner-demo.safetensors" in await get(gateway, "/models/checkpoints")
    assert await get(gateway, "/models/loras") == []
    assert await get(gateway, "/embeddings") == []
    for old_name in ("clip", "unet", "nope"):
        assert (await gateway.http.get(f"/models/{old_name}")).status_code == 404


async def test_system_stats_answers_without_a_bus(gateway: Stack) -> None:
    gateway.services.bus.down = True  # type: ignore[attr-defined]
    assert (await get(gateway, "/system_stats"))["devices"][0]["type"] == "cpu"
