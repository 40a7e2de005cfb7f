"""Files in what nodes show: every kind that core nodes and popular packs tell."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limner.errors import Unavailable
from limner.services.names import plain
from limner.worker.engines.comfyui.client import Refused, Unreachable
from limner.worker.engines.comfyui.history import Ending
from limner.worker.engines.comfyui.inputs import Prepared
from limner.worker.engines.comfyui.outputs import Outputs
from tests.support.recordings import history, recording
from tests.support.workflows import json_values
from tests.unit.worker.comfyui.fakes import Instance, RecordingSink, digits, request

NODE = {"id": "9", "display": "9", "parent": None, "real": "9"}
PLAIN = Prepared(workflow={}, shown={})


def image(filename: str, type: str = "output", subfolder: str = "") -> dict[str, str]:
    return {"filename": filename, "subfolder": subfolder, "type": type}


class Run:
    """One run's outputs over fakes."""

    def __init__(self, folder: Path, instance: Instance, *, keep_temp: bool = True, prepared: Prepared = PLAIN) -> None:
        self.instance = instance
        self.sink = RecordingSink()
        self.outputs = Outputs(instance, request(folder), self.sink, keep_temp=keep_temp, prepared=prepared)

    async def take(self, ui: dict[str, Any]) -> tuple[dict[str, Any], dict[str, bytes]]:
        """(what is shown, the new files' bytes by the name under which they are kept)"""
        shown, files = await self.outputs.take(NODE, ui)
        return shown, {
            f"{each['type']}:{each['subfolder']}/{each['filename']}": Path(each["path"]).read_bytes() for each in files
        }


async def test_a_saved_picture_keeps_its_name(tmp_path: Path) -> None:
    run = Run(tmp_path / "out", Instance({("output", "sub", "a_00001_.png"): b"picture"}))
    ui = {"images": [image("a_00001_.png", subfolder="sub")]}
    shown, files = await run.outputs.take(NODE, ui)
    assert shown == ui
    [file] = files
    path = Path(file.pop("path"))
    assert path.read_bytes() == b"picture"
    assert (path.parent, path.suffix) == (tmp_path / "out", ".png")
    assert file == {**image("a_00001_.png", subfolder="sub"), "key": "key/a_00001_.png"}


async def test_a_node_without_files_makes_no_folder(tmp_path: Path) -> None:
    run = Run(tmp_path / "out", Instance())
    ui: dict[str, Any] = {"text": ["a.png", "b"], "animated": [True], "number": 3, "none": None, "nested": [[1, [2]]]}
    assert await run.take(ui) == (ui, {})
    assert not (tmp_path / "out").exists()
    assert run.sink.questions == 0


async def test_files_are_found_under_every_key_and_at_every_depth(tmp_path: Path) -> None:
    places = {
        "images": ("output", "", "a.webp"),
        "audio": ("output", "audio", "a.flac"),
        "latents": ("output", "latents", "a.latent"),
        "3d": ("output", "3d", "a.glb"),
        "a_images": ("output", "", "left.png"),
        "b_images": ("output", "", "right.png"),
        "files": ("output", "text", "a.txt"),
    }
    run = Run(tmp_path, Instance({place: place[2].encode() for place in places.values()}))
    ui: dict[str, Any] = {key: [image(name, type, sub)] for key, (type, sub, name) in places.items()}
    ui["files"] = {"inner": [[{"file": ui["files"][0]}]]}
    shown, files = await run.take({**ui, "animated": [True]})
    assert shown == {**ui, "animated": [True]}
    assert files == {f"{kind}:{sub}/{name}": name.encode() for kind, sub, name in places.values()}
    assert run.sink.questions == 1


async def test_a_video_comes_with_the_picture_that_holds_its_workflow(tmp_path: Path) -> None:
    video, first = ("output", "v", "AnimateDiff_00001.mp4"), ("output", "v", "AnimateDiff_00001.png")
    run = Run(tmp_path, Instance({video: b"film", first: b"frame"}))
    told = image(video[2], subfolder="v") | {"format": "video/h264-mp4", "frame_rate": 8.0}
    ui = {"gifs": [{**told, "workflow": first[2], "fullpath": f"/home/me/ComfyUI/output/v/{video[2]}"}]}
    shown, files = await run.take(ui)
    assert shown == {"gifs": [{**told, "workflow": first[2], "fullpath": "v/AnimateDiff_00001.mp4"}]}
    assert files == {"output:v/AnimateDiff_00001.mp4": b"film", "output:v/AnimateDiff_00001.png": b"frame"}


async def test_a_previewed_video_and_its_picture_stay_together(tmp_path: Path) -> None:
    run = Run(tmp_path, Instance({("temp", "", "v.mp4"): b"film", ("temp", "", "v.png"): b"frame"}))
    shown, files = await run.take({"gifs": [{**image("v.mp4", "temp"), "workflow": "v.png"}]})
    assert shown == {"gifs": [{**image("v.mp4", "temp", digits(b"film")), "workflow": "v.png"}]}
    assert sorted(files) == [f"temp:{digits(b'film')}/v.mp4", f"temp:{digits(b'film')}/v.png"]


async def test_a_video_without_that_picture_is_no_fault(tmp_path: Path) -> None:
    run = Run(tmp_path, Instance({("output", "", "v.mp4"): b"film"}))
    ui = {"gifs": [{**image("v.mp4"), "workflow": "gone.png"}]}
    assert (await run.take(ui))[0] == ui
    assert run.sink.warnings == []


async def test_equal_names_of_previews_never_show_each_others_bytes(tmp_path: Path) -> None:
    names = []
    for data in (b"one", b"two"):  # two instances, or two lives of one
        run = Run(tmp_path, Instance({("temp", "PB", "p_00001_.png"): data}))
        shown, files = await run.take({"images": [image("p_00001_.png", "temp", "PB")]})
        [name] = shown["images"]
        assert name == image("p_00001_.png", "temp", f"PB/{digits(data)}")
        assert files == {f"temp:PB/{digits(data)}/p_00001_.png": data}
        names.append(name["subfolder"])
    assert names[0] != names[1]


async def test_previews_are_left_where_they_are_if_nobody_wants_them(tmp_path: Path) -> None:
    instance = Instance({("temp", "", "p.png"): b"p", ("output", "", "a.png"): b"a"})
    run = Run(tmp_path, instance, keep_temp=False)
    ui = {"images": [image("p.png", "temp"), image("a.png")]}
    shown, files = await run.take(ui)
    assert (shown, list(files)) == (ui, ["output:/a.png"])
    assert instance.asked == [("output", "", "a.png")]


async def test_3d_previews_tell_bare_paths(tmp_path: Path) -> None:
    mesh, back = ("output", "mesh", "a_00001_.glb"), ("temp", "", "bg_1.png")
    run = Run(tmp_path, Instance({mesh: b"mesh", back: b"back"}))
    camera = {"position": [1.0, 2.0], "name": "mesh/a_00001_.glb"}
    shown, files = await run.take({"result": ["mesh\\a_00001_.glb", camera, "temp/bg_1.png", "words.png", None]})
    kept = f"temp/{digits(b'back')}_bg_1.png"
    assert shown == {"result": ["mesh/a_00001_.glb", camera, kept, "words.png", None]}
    assert files == {"output:mesh/a_00001_.glb": b"mesh", f"temp:/{digits(b'back')}_bg_1.png": b"back"}
    assert run.sink.warnings == []


async def test_a_text_that_looks_like_a_file_is_a_text(tmp_path: Path) -> None:
    instance = Instance({("output", "", "a.png"): b"a"})
    run = Run(tmp_path, instance)
    ui = {"text": ["a.png"], "result": ["a sentence.", "two\nlines.png"]}
    assert await run.take(ui) == (ui, {})
    assert instance.asked == []


@pytest.mark.parametrize(
    "name", ["Größe 100%.png", "a b+c&d=e#f?.png", "日本語_00001_.png", 'quote".png', "%20.png", "a.tar.gz", "noext"]
)
async def test_names_are_asked_for_and_kept_to_the_letter(tmp_path: Path, name: str) -> None:
    run = Run(tmp_path, Instance({("output", "ü 1", name): b"x"}))
    ui = {"images": [image(name, subfolder="ü 1")]}
    shown, files = await run.take(ui)
    assert (shown, files) == (ui, {f"output:ü 1/{name}": b"x"})


async def test_a_windows_folder_is_asked_for_as_told_and_kept_with_slashes(tmp_path: Path) -> None:
    instance = Instance({("output", "2025\\10", "a.png"): b"x"})
    shown, files = await Run(tmp_path, instance).take({"images": [image("a.png", subfolder="2025\\10")]})
    assert shown == {"images": [image("a.png", subfolder="2025/10")]}
    assert list(files) == ["output:2025/10/a.png"]


@pytest.mark.parametrize(
    ("told", "place"),
    [
        ({"filename": "a.png"}, ("output", "", "a.png")),
        ({"filename": "a.png", "subfolder": None, "type": None}, ("output", "", "a.png")),
        ({"filename": "a.png [temp]", "type": "output"}, ("temp", "", "a.png")),
        ({"filename": "in/a.png", "type": "output"}, ("output", "in", "a.png")),
        ({"filename": "in\\a.png", "subfolder": "x", "type": "output"}, ("output", "x/in", "a.png")),
    ],
)
async def test_files_told_in_odd_ways_are_found(
    tmp_path: Path, told: dict[str, Any], place: tuple[str, str, str]
) -> None:
    run = Run(tmp_path, Instance({place: b"x"}))
    shown, files = await run.take({"images": [{**told, "more": 1}]})
    subfolder = f"{place[1]}/{digits(b'x')}".strip("/") if place[0] == "temp" else place[1]
    assert shown == {"images": [{**image(place[2], place[0], subfolder), "more": 1}]}
    assert len(files) == 1


@pytest.mark.parametrize(
    "told",
    [
        {"filename": "/data/a.mp4", "subfolder": "", "type": "path"},
        {"filename": "", "subfolder": "", "type": "output"},
        {"filename": 3, "type": "output"},
        {"filename": "a.png", "subfolder": ["x"], "type": "output"},
        {"filename": "model.safetensors", "strength": 0.5},
    ],
)
async def test_what_is_no_file_of_the_instance_stays_as_it_is(tmp_path: Path, told: dict[str, Any]) -> None:
    run = Run(tmp_path, Instance())
    assert await run.take({"images": [told]}) == ({"images": [told]}, {})
    assert run.sink.warnings == []


async def test_a_file_that_is_not_there_is_left_with_a_warning(tmp_path: Path) -> None:
    run = Run(tmp_path, Instance({("output", "", "b.png"): b"b"}))
    run.instance.faults["out.png"] = Refused(403, "")
    ui = {"images": [image("gone.png"), image("out.png", subfolder="/etc"), image("b.png")]}
    shown, files = await run.take(ui)
    assert (shown, list(files)) == (ui, ["output:/b.png"])
    gone, out = sorted(run.sink.warnings)
    assert "gone" in out or "gone" in gone
    assert {event.data["node"]["id"] for event in run.sink.events} == {"9"}


async def test_a_file_that_is_there_and_not_given_out_fails_the_run(tmp_path: Path) -> None:
    run = Run(tmp_path, Instance())
    run.instance.faults = {"a.png": Refused(500, "Server got itself in trouble")}
    with pytest.raises(Unavailable, match=r"a\.png"):
        await run.take({"images": [image("a.png"), image("b.png"), image("c.png")]})
    run.instance.faults = {"a.png": Unreachable("cut short")}
    with pytest.raises(Unreachable):
        await run.take({"images": [image("a.png")]})


async def test_a_file_told_again_is_fetched_again_and_stored_once(tmp_path: Path) -> None:
    run = Run(tmp_path, Instance({("output", "", "a.png"): b"one"}))
    ui = {"images": [image("a.png")], "files": [image("a.png")]}
    assert list((await run.take(ui))[1]) == ["output:/a.png"]
    assert await run.take(ui) == (ui, {})
    run.instance.files["output", "", "a.png"] = b"two"
    shown, files = await run.take({"images": [image("a.png")]})
    assert shown == {"images": [image("a (1).png")]}
    assert files == {"output:/a (1).png": b"two"}


async def test_history_is_not_fetched_again(tmp_path: Path) -> None:
    run = Run(tmp_path, Instance({("output", "", "a.png"): b"a", ("temp", "", "p.png"): b"p"}))
    taken = {"images": [image("p.png", "temp")]}
    shown, _ = await run.take(taken)
    late = {"images": [image("a.png")]}
    meta = {node: {"node_id": node, "display_node": node, "parent_node": None, "real_node_id": node} for node in "79"}
    outputs, files = await run.outputs.settle(Ending(outcome="succeeded", outputs={"9": taken, "7": late}, meta=meta))
    assert outputs == {"9": shown, "7": late}
    assert [each["filename"] for each in files] == ["a.png"]
    assert run.instance.asked == [("temp", "", "p.png"), ("output", "", "a.png")]


async def test_input_files_go_back_under_the_callers_names(tmp_path: Path) -> None:
    shown = {
        "limner/abc/cat.png": "pets/cat.png",
        "limner/def/o.png": "o.png [output]",
        "3d/limner/a/m.glb": "3d/m.glb",
    }
    instance = Instance({("input", "", "example.png"): b"example"})
    run = Run(tmp_path, instance, prepared=Prepared(workflow={}, shown=shown))
    names = [image("cat.png", "input", "limner\\abc"), image("o.png", "input", "limner/def")]
    ui = {
        "images": [*names, image("example.png", "input")],
        "text": ["loaded limner/abc/cat.png", "C:\\input\\limner\\abc\\cat.png"],
        "result": ["3d/limner/a/m.glb"],
    }
    kept, files = await run.take(ui)
    assert kept["images"] == [
        image("cat.png", "input", "pets"),
        image("o.png", "output"),
        image("example.png", "temp", digits(b"example")),
    ]
    assert kept["text"] == ["loaded pets/cat.png", "C:\\input\\pets/cat.png"]
    assert kept["result"] == ["3d/m.glb"]
    assert list(files) == [f"temp:{digits(b'example')}/example.png"]


async def test_names_that_no_store_takes_are_mended(tmp_path: Path) -> None:
    long = "x" * 250 + "ü" * 10 + ".png"
    odd = "a\nb\x7f.png"
    instance = Instance({("output", "", long): b"1", ("output", "C:\\out", odd): b"2"})
    shown, _ = await Run(tmp_path, instance).take({"images": [image(long), image(odd, subfolder="C:\\out")]})
    first, second = shown["images"]
    assert len(first["filename"].encode()) <= 255
    assert first["filename"].endswith(".png")
    assert second == image("a_b_.png", subfolder="C_/out")


async def test_text_that_no_database_holds_is_mended(tmp_path: Path) -> None:
    ui = {"text": ["half \udcff", float("inf")], "images": [image("bad\udcff.png")]}
    run = Run(tmp_path, Instance())
    shown, files = await run.take(ui)
    assert shown == {"text": ["half ?", None], "images": [image("bad?.png")]}
    assert files == {}
    assert len(run.sink.warnings) == 1


async def test_a_recorded_run_with_an_upload_a_mask_and_a_preview(tmp_path: Path) -> None:
    entry = history(recording("30"), "00000000-0000-4000-8000-000000000060")
    told = [each for ui in entry["outputs"].values() for each in ui["images"]]
    instance = Instance({(each["type"], each["subfolder"], each["filename"]): b"x" for each in told})
    run = Run(tmp_path, instance)
    outputs, files = await run.outputs.settle(Ending(outcome="succeeded", outputs=entry["outputs"], meta=entry["meta"]))
    assert sorted((each["type"], each["filename"]) for each in files) == sorted(
        (each["type"], each["filename"]) for each in told
    )
    assert outputs["2"] == entry["outputs"]["2"]
    assert outputs["4"]["images"][0]["filename"] == entry["outputs"]["4"]["images"][0]["filename"]
    assert len({each["path"] for each in files}) == len(files)


FILES = st.fixed_dictionaries(
    {"filename": st.sampled_from(["a.png", "x/b.glb", "c.mp4 [temp]", "..", "/"]) | json_values},
    optional={
        "subfolder": st.sampled_from(["", "s", "\\\\host\\d", "../.."]) | json_values,
        "type": st.sampled_from(["output", "temp", "input"]) | json_values,
        "workflow": st.sampled_from(["a.png"]) | json_values,
        "fullpath": json_values,
    },
)


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.sampled_from(["images", "result", "text"]), st.lists(json_values | FILES) | json_values))
async def test_whatever_a_node_shows_its_files_are_kept_and_the_rest_stays(ui: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        run = Run(Path(folder), Generous())
        shown, files = await run.take(ui)
        assert list(shown) == list(ui)
        json.dumps(shown, allow_nan=False, ensure_ascii=False).encode()
        assert all(plain(name) and ".." not in name.split("/") for name in files)


class Generous(Instance):
    """Has every file that it is asked for."""

    async def download(self, filename: str, subfolder: str, type: str, target: Path) -> int:
        return target.write_bytes(filename.encode())
