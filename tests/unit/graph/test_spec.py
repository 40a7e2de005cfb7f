"""NodeSpec: read from signatures, shown as ComfyUI shows it, kept as data."""

from __future__ import annotations

import json
from typing import Annotated, Any

import pytest

from limner.graph.kinds import Result
from limner.graph.node import kind_of, node
from limner.graph.spec import NodeSpec
from limner.graph.types import Choices, Files, Flag, Float, Hidden, InputFiles, Int, Socket, Text, joins
from tests.support import toys
from tests.support.recordings import DATA, recording

SAMPLE = json.loads((DATA / "object_info_sample.json").read_text())
Model = Annotated[Any, Socket("MODEL", {})]


@pytest.mark.parametrize("name", SAMPLE)
def test_a_recorded_entry_of_object_info_survives_as_a_spec(name: str) -> None:
    shown = NodeSpec.from_json(SAMPLE[name]).object_info()
    for left_out_of_the_recording in ("description", "output_tooltips"):
        shown.pop(left_out_of_the_recording, None)
    assert shown == SAMPLE[name]
    assert list(shown["input"]) == list(SAMPLE[name]["input"])


@pytest.mark.parametrize("name", SAMPLE)
def test_the_catalogue_form_loses_nothing(name: str) -> None:
    spec = NodeSpec.from_json(SAMPLE[name])
    assert NodeSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


def test_a_signature_gives_what_a_node_class_gave_in_comfyui() -> None:
    recorded = [
        exchange["response"]["json"]["ApTypes"]
        for exchange in recording("33")["exchanges"]
        if exchange["request"]["path"] == "/object_info/ApTypes"
    ]
    assert [kind_of(toys.ap_types).spec.object_info()] == recorded


@node("Everything", category="toy", display_name="All of it", fingerprint=lambda ctx, name: (ctx, name))
def everything(
    ctx: Any,
    model: Model,
    *,
    seed: Annotated[int, Int(0, 2**64 - 1, control_after_generate=True)] = 0,
    scale: Annotated[float, Float(0, 100, step=0.1, round=0.01)] = 8,
    kind: Annotated[str, Choices(lambda: ["x", "y"], options={})],
    ckpt: Annotated[str, Files("checkpoints", options={})],
    name: Annotated[str, InputFiles()],
    flag: Annotated[bool, Flag(label_on="yes")] = True,
    mask: Annotated[Any, Socket("MASK")] | None = None,
    note: Annotated[str, Text(multiline=True, dynamic_prompts=True, optional=True)] = "n",
    prompt: Annotated[Any, Hidden("PROMPT")],
) -> tuple[Model, Annotated[Any, Socket("*")]]:
    """What it does."""
    return model, (ctx, seed, prompt)


def test_every_marker_shows_as_comfyui_shows_it() -> None:
    info = kind_of(everything).spec.object_info()
    assert info["input"] == {
        "required": {
            "model": ["MODEL", {}],
            "seed": ["INT", {"default": 0, "min": 0, "max": 2**64 - 1, "control_after_generate": True}],
            "scale": ["FLOAT", {"default": 8.0, "min": 0.0, "max": 100.0, "step": 0.1, "round": 0.01}],
            "kind": [["x", "y"], {}],
            "ckpt": [[], {}],
            "name": [[], {"image_upload": True}],
            "flag": ["BOOLEAN", {"default": True, "label_on": "yes"}],
        },
        "optional": {
            "mask": ["MASK"],
            "note": ["STRING", {"default": "n", "multiline": True, "dynamicPrompts": True}],
        },
        "hidden": {"prompt": "PROMPT"},
    }
    assert (info["output"], info["display_name"], info["description"]) == (["MODEL", "*"], "All of it", "What it does.")
    assert type(info["input"]["required"]["scale"][1]["default"]) is float


def test_what_json_alone_loses_is_kept() -> None:
    spec = kind_of(everything).spec
    back = NodeSpec.from_json(json.loads(json.dumps(spec.to_json())))
    assert back == spec
    assert (back.input["ckpt"].folder, back.input["name"].upload) == ("checkpoints", "image")
    assert back.outputs[1].any_type
    assert back.fingerprinted


def test_a_node_gets_its_context_and_gives_its_values() -> None:
    result = kind_of(everything).call({"model": "m", "kind": "x", "ckpt": "c", "name": "f", "prompt": {}}, "context")
    assert result == Result(values=("m", ("context", 0, {})))


def test_a_fingerprint_asks_for_what_it_names() -> None:
    assert kind_of(everything).fingerprint({"name": "a.png", "seed": 1}, "context") == ("context", "a.png")


def test_a_wrong_number_of_values_is_told() -> None:
    @node("Two", category="toy", outputs=("INT", "INT"))
    def two() -> Any:
        return (1,)

    with pytest.raises(TypeError, match="Two returned 1 values and declares 2 outputs"):
        kind_of(two).call({}, None)


def test_a_plain_function_is_no_node() -> None:
    with pytest.raises(TypeError, match="@node is missing"):
        kind_of(len)


def test_a_parameter_without_marker_is_refused() -> None:
    with pytest.raises(TypeError, match="parameter x of node Bad has no marker"):

        @node("Bad", category="toy")
        def bad(x: int) -> None: ...


def test_outputs_that_nobody_told_are_refused() -> None:
    with pytest.raises(TypeError, match="node Bad must tell its outputs"):

        @node("Bad", category="toy")
        def bad() -> int:
            return 1


@pytest.mark.parametrize(
    ("received", "wanted", "fits"),
    [
        ("IMAGE", "IMAGE", True),
        ("INT", "FLOAT", False),
        ("INT", "STRING", False),
        ("INT", "INT,FLOAT", True),
        ("FLOAT,STRING", "INT, FLOAT", True),
        ("STRING", ["a"], False),
        (["a"], ["a"], True),
        ("*", "IMAGE", False),  # as plain text a star is not special
    ],
)
def test_types_join(received: Any, wanted: Any, fits: bool) -> None:
    assert joins(received, wanted) is fits
