"""Whole workflows of value and media nodes: validated with the library's catalogue and run by the engine."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from limner.engine.cache import OutputCache
from limner.engine.context import RunContext
from limner.engine.events import Event, NodeOutput, NodeRef, NodeStarted, RunFailed, RunInterrupted, RunResult
from limner.engine.executor import Executor
from limner.errors import WorkflowInvalid
from limner.graph.validate import validate
from limner.models.files import ModelFolders
from limner.nodes import library
from limner.nodes.media.video import VideoFromFile
from tests.unit.nodes.contexts import LocalFiles
from tests.unit.nodes.media import call, content, moving, tone, value

NODES = library.load()
CATALOGUE = library.catalogue(NODES, ModelFolders())


class Ran:
    """A workflow's run: how it ended, what ran, and what was shown."""

    def __init__(
        self,
        folder: Path,
        nodes: dict[str, tuple[str, dict[str, Any]]],
        interrupted: Callable[[], bool] = lambda: False,
    ) -> None:
        prompt = {node_id: {"class_type": kind, "inputs": inputs} for node_id, (kind, inputs) in nodes.items()}
        files = [each.name for each in folder.iterdir()]
        checked = validate(prompt, CATALOGUE, input_files=files)
        events: list[Event] = []
        ctx = RunContext(
            prompt_id="p",
            tenant="default",
            node=NodeRef.plain(""),
            prompt=prompt,
            extra_pnginfo=None,
            files=LocalFiles(folder),
        )
        self.result: RunResult = Executor(NODES, OutputCache()).run(
            workflow=checked.workflow, outputs=checked.outputs, ctx=ctx, emit=events.append, interrupted=interrupted
        )
        self.started = {event.node.id for event in events if isinstance(event, NodeStarted)}
        self.shown = {event.node.id: event.ui for event in events if isinstance(event, NodeOutput)}

    def text(self, node_id: str = "show") -> str:
        assert not isinstance(self.result.end, RunFailed), self.result.end
        return str(self.shown[node_id]["text"][0])


def showing(source: str, slot: int = 0) -> dict[str, tuple[str, dict[str, Any]]]:
    return {"show": ("PreviewAny", {"source": [source, slot]})}


def faults(folder: Path, **nodes: tuple[str, dict[str, Any]]) -> list[tuple[str, str]]:
    with pytest.raises(WorkflowInvalid) as refused:
        Ran(folder, nodes)
    return [
        (each["type"], each["extra_info"].get("input_name", ""))
        for errors in refused.value.node_errors.values()
        for each in errors["errors"]
    ]


@pytest.mark.parametrize("on", [True, False])
def test_only_the_chosen_branch_of_a_switch_runs(on: bool, tmp_path: Path) -> None:
    ran = Ran(tmp_path, {
        "yes": ("PrimitiveString", {"value": "yes"}),
        "no": ("PrimitiveString", {"value": "no"}),
        "which": ("PrimitiveBoolean", {"value": on}),
        "s": ("ComfySwitchNode", {"switch": ["which", 0], "on_true": ["yes", 0], "on_false": ["no", 0]}),
        **showing("s"),
    })  # fmt: skip
    assert ran.text() == ("yes" if on else "no")
    assert ran.started == {"which", "s", "show", "yes" if on else "no"}


def test_a_switch_needs_its_chosen_branch_alone(tmp_path: Path) -> None:
    nodes: dict[str, tuple[str, dict[str, Any]]] = {
        "a": ("PrimitiveInt", {"value": 7}),
        "s": ("ComfySwitchNode", {"switch": True, "on_true": ["a", 0]}),
        **showing("s"),
    }
    assert Ran(tmp_path, nodes).text() == "7"
    nodes["s"][1]["switch"] = False
    end = Ran(tmp_path, nodes).result.end
    assert isinstance(end, RunFailed)
    assert "on_false is not connected" in end.exception_message


def test_a_switch_passes_its_type_on(tmp_path: Path) -> None:
    def nodes(kind: str, value_: Any) -> dict[str, tuple[str, dict[str, Any]]]:
        return {
            "a": (kind, {"value": value_}),
            "s": ("ComfySwitchNode", {"switch": True, "on_true": ["a", 0]}),
            "l": ("StringLength", {"string": ["s", 0]}),
            **showing("l"),
        }

    assert Ran(tmp_path, nodes("PrimitiveString", "abc")).text() == "3"
    assert faults(tmp_path, **nodes("PrimitiveInt", 5)) == [("return_type_mismatch", "string")]


def test_a_formula_takes_what_is_connected(tmp_path: Path) -> None:
    nodes: dict[str, tuple[str, dict[str, Any]]] = {
        "i": ("PrimitiveInt", {"value": 3}),
        "f": ("PrimitiveFloat", {"value": 0.5}),
        "m": ("ComfyMathExpression", {"expression": "a * b + 1", "values.a": ["i", 0], "values.b": ["f", 0]}),
        **showing("m", 1),
    }
    assert Ran(tmp_path, nodes).text() == "2"
    nodes["s"] = ("PrimitiveString", {"value": "x"})
    nodes["m"][1]["values.b"] = ["s", 0]
    assert faults(tmp_path, **nodes) == [("return_type_mismatch", "values.b")]
    del nodes["m"][1]["values.a"]
    assert ("required_input_missing", "values.a") in faults(tmp_path, **nodes)


def test_pictures_are_joined_resized_and_written(tmp_path: Path) -> None:
    empty = {"width": 64, "height": 32, "batch_size": 1, "color": 0xFF0000}
    nodes: dict[str, tuple[str, dict[str, Any]]] = {
        "a": ("EmptyImage", empty),
        "b": ("EmptyImage", {**empty, "width": 32}),
        "j": ("BatchImagesNode", {"images.image0": ["a", 0], "images.image1": ["b", 0]}),
        "r": (
            "ResizeImageMaskNode",
            {"input": ["j", 0], "resize_type": "scale width", "resize_type.width": "16", "scale_method": "area"},
        ),
        "w": (
            "SaveImageAdvanced",
            {
                "images": ["r", 0],
                "filename_prefix": "out",
                "format": "png",
                "format.bit_depth": "16-bit",
                "format.input_color_space": "sRGB",
            },
        ),
    }
    assert [each["filename"] for each in Ran(tmp_path, nodes).shown["w"]["images"]] == [
        "out_00001_.png",
        "out_00002_.png",
    ]
    nodes["r"][1]["resize_type.width"] = 9000
    assert faults(tmp_path, **nodes) == [("value_bigger_than_max", "resize_type.width")]
    nodes["r"][1].update({"input": ["l", 0], "resize_type.width": 16})
    nodes["l"] = ("EmptyLatentImage", {"width": 64, "height": 64, "batch_size": 1})
    assert faults(tmp_path, **nodes) == [("return_type_mismatch", "input")]


def test_a_custom_combo_takes_every_text(tmp_path: Path) -> None:
    nodes: dict[str, tuple[str, dict[str, Any]]] = {
        "c": ("CustomCombo", {"choice": "Turbo", "index": 2, "option1": "Quality", "option2": "Turbo"}),
        **showing("c"),
    }
    assert Ran(tmp_path, nodes).text() == "Turbo"


def test_a_video_is_loaded_cut_and_written(tmp_path: Path) -> None:
    video = value("CreateVideo", tmp_path, images=moving(20), fps=10.0, audio=tone(2.0))
    call("SaveVideo", tmp_path, video=video, filename_prefix="in", format="auto", codec="auto")
    ran = Ran(tmp_path, {
        "l": ("LoadVideo", {"file": "in_00001_.mp4"}),
        "c": ("Video Slice", {"video": ["l", 0], "start_time": 0.5, "duration": 1, "strict_duration": True}),
        "w": ("SaveVideo", {"video": ["c", 0], "filename_prefix": "out", "format": "mp4", "codec": "h264"}),
        "g": ("GetVideoComponents", {"video": ["l", 0]}),
        "p": ("PreviewAudio", {"audio": ["g", 1]}),
        **showing("g", 2),
    })  # fmt: skip
    assert ran.text() == "10.0"
    assert content(tmp_path / ran.shown["w"]["images"][0]["filename"]).frames == 10
    assert ran.shown["p"]["audio"][0]["type"] == "temp"


@pytest.mark.parametrize(("kind", "name"), [("LoadAudio", "audio"), ("RecordAudio", "audio"), ("LoadVideo", "file")])
def test_a_file_that_is_not_the_tenants_is_refused(kind: str, name: str, tmp_path: Path) -> None:
    nodes: dict[str, tuple[str, dict[str, Any]]] = {"l": (kind, {name: "other.mp4"}), **showing("l")}
    assert faults(tmp_path, **nodes) == [("custom_validation_failed", name)]


def test_a_tenants_sounds_and_videos_are_offered() -> None:
    info = CATALOGUE.object_info(["a.png", "b.flac", "c.mkv", "d.aac", "e.avi"])
    assert info["LoadAudio"]["input"]["required"]["audio"][0] == ["b.flac", "d.aac"]
    assert info["LoadVideo"]["input"]["required"]["file"][1]["options"] == ["c.mkv", "e.avi"]
    assert info["RecordAudio"]["input"]["required"]["audio"] == ["AUDIO_RECORD", {}]


def test_writing_a_long_video_stops_when_asked(tmp_path: Path) -> None:
    asked = 0

    def after_a_while() -> bool:
        nonlocal asked
        asked += 1
        return asked > 20

    nodes: dict[str, tuple[str, dict[str, Any]]] = {
        "a": ("EmptyImage", {"width": 32, "height": 32, "batch_size": 500, "color": 0}),
        "v": ("CreateVideo", {"images": ["a", 0], "fps": 10}),
        "w": ("SaveVideo", {"video": ["v", 0], "filename_prefix": "out", "format": "auto", "codec": "auto"}),
    }
    end = Ran(tmp_path, nodes, after_a_while).result.end
    assert isinstance(end, RunInterrupted)
    assert end.node.id == "w"


def test_components_given_by_a_pack_are_a_video_too(tmp_path: Path) -> None:
    video = value("CreateVideo", tmp_path, images=torch.zeros(3, 16, 16, 3), fps=8.0)
    source = video.get_stream_source()
    assert VideoFromFile(source).get_frame_count() == 3
