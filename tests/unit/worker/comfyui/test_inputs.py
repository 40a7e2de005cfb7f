"""Input files on an instance: where they go, and how the workflow names them then."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from limner.enginehost.protocol import RunRequest
from limner.errors import DiskFull, LimnerError, PayloadTooLarge, Unavailable
from limner.graph.spec import InputSpec, NodeSpec
from limner.worker.engines.comfyui.client import Refused, Unreachable
from limner.worker.engines.comfyui.inputs import Prepared, Uploads, unlisted
from tests.unit.worker.comfyui.fakes import Instance, request


def spec(name: str, *inputs: InputSpec) -> NodeSpec:
    return NodeSpec(name=name, display_name=name, category="test", inputs=inputs, foreign=True)


SPECS = {
    "LoadImage": spec("LoadImage", InputSpec(name="image", type=[], upload="image")),
    "LoadVideo": spec("LoadVideo", InputSpec(name="file", type="COMBO", options={"options": []}, upload="video")),
    "Load3D": spec("Load3D", InputSpec(name="model_file", type=[], upload="file")),
    "PackLoader": spec(
        "PackLoader",
        InputSpec(name="picture", type=["a.png", "model.safetensors"]),
        InputSpec(name="model", type=[], folder="loras"),
        InputSpec(name="text", type="STRING"),
    ),
}


def job(folder: Path, workflow: dict[str, Any], inputs: dict[str, bytes], tenant: str = "default") -> RunRequest:
    paths = {}
    for number, (reference, data) in enumerate(inputs.items()):
        path = folder / f"{tenant}{number}"
        path.write_bytes(data)
        paths[reference] = str(path)
    return request(folder, tenant=tenant, workflow=workflow, inputs=paths)


def load(reference: Any, kind: str = "LoadImage", name: str = "image") -> dict[str, Any]:
    return {"1": {"class_type": kind, "inputs": {name: reference, "other": 1}, "_meta": {"title": reference}}}


def digest(data: bytes, tenant: str = "default") -> str:
    return hashlib.sha256(tenant.encode() + b"\0" + data).hexdigest()[:32]


@pytest.mark.parametrize(
    ("reference", "name"),
    [
        ("cat.png", "cat.png"),
        ("pets/cat.png", "cat.png"),
        ("pets\\cat.png", "cat.png"),
        ("cat.png [input]", "cat.png"),
        ("sub/out_00001_.png [output]", "out_00001_.png"),
        ("clipspace/mask [1].png [temp]", "mask [1].png"),
        ("Größe 100% ü.png", "Größe 100% ü.png"),
        ("noext", "noext"),
        ('what "is": this?.png', "what _is__ this_.png"),
        ("dots...", "dots"),
        ("...", "file"),
    ],
)
async def test_a_file_lies_in_a_folder_of_its_bytes_under_its_own_name(
    tmp_path: Path, reference: str, name: str
) -> None:
    instance = Instance()
    workflow = load(reference)
    prepared = await Uploads(instance).prepare(job(tmp_path, workflow, {reference: b"cat"}), SPECS)
    place = f"limner/{digest(b'cat')}/{name}"
    assert instance.files == {("input", f"limner/{digest(b'cat')}", name): b"cat"}
    assert prepared.workflow["1"]["inputs"] == {"image": place, "other": 1}
    assert prepared.workflow["1"]["_meta"] == {"title": reference}
    assert prepared.shown == {place: reference}
    assert workflow == load(reference), "the job's own workflow is left alone"


async def test_tenants_never_share_a_file(tmp_path: Path) -> None:
    instance = Instance()
    uploads = Uploads(instance)
    for tenant in ("one", "two"):
        await uploads.prepare(job(tmp_path, load("a.png"), {"a.png": b"same"}, tenant), SPECS)
    assert {subfolder for _, subfolder, _ in instance.files} == {
        f"limner/{digest(b'same', tenant)}" for tenant in ("one", "two")
    }


async def test_equal_bytes_get_equal_names_so_that_the_instance_finds_them_cached(tmp_path: Path) -> None:
    uploads = Uploads(Instance())
    first = await uploads.prepare(job(tmp_path, load("a.png"), {"a.png": b"same"}), SPECS)
    second = await uploads.prepare(job(tmp_path, load("a.png"), {"a.png": b"same"}), SPECS)
    assert first == second


async def test_only_inputs_that_take_files_are_renamed(tmp_path: Path) -> None:
    inputs = dict.fromkeys(("picture", "model", "text", "undeclared"), "cat.png")
    workflow = {"1": {"class_type": "PackLoader", "inputs": inputs}, "2": {"class_type": "Nobody", "inputs": inputs}}
    prepared = await Uploads(Instance()).prepare(job(tmp_path, workflow, {"cat.png": b"cat"}), SPECS)
    place = f"limner/{digest(b'cat')}/cat.png"
    renamed = {**inputs, "picture": place}
    assert prepared.workflow == {
        "1": {"class_type": "PackLoader", "inputs": renamed},
        "2": {"class_type": "Nobody", "inputs": inputs},
    }


async def test_a_value_that_is_offered_is_no_file_of_the_callers(tmp_path: Path) -> None:
    workflow = load("model.safetensors", "PackLoader", "picture")
    inputs = {"model.safetensors": b"an input file of the same name"}
    prepared = await Uploads(Instance()).prepare(job(tmp_path, workflow, inputs), SPECS)
    assert prepared.workflow == workflow


async def test_links_stay_links(tmp_path: Path) -> None:
    workflow = load(["cat.png", 0])
    prepared = await Uploads(Instance()).prepare(job(tmp_path, workflow, {"cat.png": b"cat"}), SPECS)
    assert prepared.workflow == workflow


async def test_models_in_3d_stay_where_their_loader_looks(tmp_path: Path) -> None:
    instance = Instance()
    wanted = job(tmp_path, load("3d/cup.glb", "Load3D", "model_file"), {"3d/cup.glb": b"cup"})
    prepared = await Uploads(instance).prepare(wanted, SPECS)
    place = f"3d/limner/{digest(b'cup')}/cup.glb"
    assert prepared.workflow["1"]["inputs"]["model_file"] == place
    assert prepared.shown == {place: "3d/cup.glb"}


async def test_a_loader_that_lists_one_folder_only_gets_its_file_there(tmp_path: Path) -> None:
    instance = Instance()
    uploads = Uploads(instance)
    long = "ü" * 120 + ".png"
    wanted = job(tmp_path, load(long, "PackLoader", "picture"), {long: b"cat", "b.png": b"b"})
    prepared = await uploads.prepare(wanted, SPECS)
    value = prepared.workflow["1"]["inputs"]["picture"]
    fault = {"type": "value_not_in_list", "extra_info": {"input_name": "picture", "received_value": value}}
    other = {"type": "value_not_in_list", "extra_info": {"input_name": "c", "received_value": "three"}}
    body = {"error": {}, "node_errors": {"1": {"errors": [fault, other], "class_type": "PackLoader"}}}
    assert unlisted(body, prepared) == {long}
    again = await uploads.prepare(wanted, SPECS, flat=unlisted(body, prepared))
    name = again.workflow["1"]["inputs"]["picture"]
    assert name.startswith(f"limner_{digest(b'cat')}_")
    assert name.endswith("ü.png")
    assert len(name.encode()) <= 255
    assert instance.files["input", "", name] == b"cat"
    assert again.shown[name] == long


@pytest.mark.parametrize("body", [None, "text", {"node_errors": []}, {"node_errors": {"1": {"errors": [{}]}}}])
def test_other_refusals_ask_for_no_other_place(body: Any) -> None:
    assert unlisted(body, Prepared(workflow={}, shown={"limner/a/b.png": "b.png"})) == frozenset()


async def test_a_running_prompts_names_are_known_without_an_upload(tmp_path: Path) -> None:
    instance = Instance()
    uploads = Uploads(instance)
    wanted = job(tmp_path, load("pets/cat.png"), {"pets/cat.png": b"cat"})
    prepared = await uploads.prepare(wanted, SPECS)
    flat = await uploads.prepare(wanted, SPECS, flat={"pets/cat.png"})
    instance.files.clear()
    recalled = await uploads.recall(wanted)
    assert recalled.shown == prepared.shown | flat.shown
    assert instance.files == {}


def test_callers_see_their_own_names_again() -> None:
    prepared = Prepared(workflow={}, shown={"limner/ab/cat.png": "pets/cat.png"})
    told = {
        "message": "cannot open '/home/me/input/limner/ab/cat.png'",
        "windows": ["D:\\input\\limner\\ab\\cat.png", {"repr": "'D:\\\\input\\\\limner\\\\ab\\\\cat.png'"}],
        "number": 3,
    }
    assert prepared.restore(told) == {
        "message": "cannot open '/home/me/input/pets/cat.png'",
        "windows": ["D:\\input\\pets/cat.png", {"repr": "'D:\\\\input\\\\pets/cat.png'"}],
        "number": 3,
    }


@pytest.mark.parametrize(
    ("raised", "kind", "retryable"),
    [
        (Refused(413, "Maximum request body size 104857600 exceeded."), PayloadTooLarge, False),
        (Refused(500, "500 Internal Server Error\n\nServer got itself in trouble"), DiskFull, True),
        (Refused(507, ""), DiskFull, True),
        (Refused(400, ""), Unavailable, True),
        (Refused(401, "<html>login</html>"), Unavailable, True),
    ],
)
async def test_a_refused_upload_says_why(
    tmp_path: Path, raised: LimnerError, kind: type[LimnerError], retryable: bool
) -> None:
    instance = Instance()
    instance.faults["cat.png"] = raised
    uploads = Uploads(instance, pause_seconds=0)
    with pytest.raises(kind, match=r"pets/cat\.png") as caught:
        await uploads.prepare(job(tmp_path, load("pets/cat.png"), {"pets/cat.png": b"cat"}), SPECS)
    assert caught.value.retryable is retryable


async def test_a_fault_that_passes_is_waited_for(tmp_path: Path) -> None:
    instance = Instance()
    instance.passing = [Refused(500, ""), Refused(500, "")]
    uploads = Uploads(instance, pause_seconds=0)
    await uploads.prepare(job(tmp_path, load("cat.png"), {"cat.png": b"cat"}), SPECS)
    assert list(instance.files.values()) == [b"cat"]


async def test_an_instance_that_does_not_answer_is_told_as_such(tmp_path: Path) -> None:
    instance = Instance()
    instance.faults["cat.png"] = Unreachable("nobody there", refused=True)
    with pytest.raises(Unreachable):
        await Uploads(instance).prepare(job(tmp_path, load("cat.png"), {"cat.png": b"cat"}), SPECS)


async def test_what_was_used_longest_ago_is_emptied_when_there_is_too_much(tmp_path: Path) -> None:
    instance = Instance()
    uploads = Uploads(instance, kept_bytes=25)
    for name in ("a.png", "b.png", "a.png", "c.png"):
        await uploads.prepare(job(tmp_path, load(name), {name: name.encode() * 2}), SPECS)
        await uploads.tidy()
    assert {name: len(data) for (_, _, name), data in instance.files.items()} == {"a.png": 10, "b.png": 0, "c.png": 10}
    await uploads.prepare(job(tmp_path, load("b.png"), {"b.png": b"b.pngb.png"}), SPECS)
    assert all(instance.files.values()), "what is needed again is whole again"


async def test_tidying_is_no_matter_of_life_and_death(tmp_path: Path) -> None:
    instance = Instance()
    uploads = Uploads(instance, kept_bytes=0)
    await uploads.prepare(job(tmp_path, load("a.png"), {"a.png": b"a"}), SPECS)
    instance.faults["a.png"] = Unreachable("gone")
    await uploads.tidy()
    assert list(instance.files.values()) == [b"a"]
    instance.faults.clear()
    await uploads.tidy()
    assert list(instance.files.values()) == [b""], "it is done after the next run"


async def test_an_instance_that_does_not_answer_is_not_asked_for_every_file(tmp_path: Path) -> None:
    instance = Instance()
    uploads = Uploads(instance, kept_bytes=0)
    names = [f"{number}.png" for number in range(5)]
    for name in names:
        await uploads.prepare(job(tmp_path, load(name), {name: name.encode()}), SPECS)
    instance.passing = [Unreachable("gone")] * 5
    await uploads.tidy()
    assert len(instance.passing) == 4
