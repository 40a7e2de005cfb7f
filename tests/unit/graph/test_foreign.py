"""Workflows for a ComfyUI behind Limner: refused where it was recorded to refuse them, and nowhere else."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings

from limner.errors import WorkflowInvalid
from limner.graph.catalogue import Catalogue
from limner.graph.object_info import catalogue_of
from limner.graph.references import named_files
from limner.graph.validate import Validated, validate
from tests.support import comfyui_nodes
from tests.support.comfyui_nodes import MODELS
from tests.support.recordings import comparable
from tests.support.workflows import any_workflows
from tests.unit.graph.test_validate import recorded_requests, sorted_lines

WITH_PACK = comfyui_nodes.catalogue()
ALL_CORE = catalogue_of(
    comfyui_nodes.with_checkpoints(
        {**comfyui_nodes.core(), **comfyui_nodes.pack(module="nodes")}, MODELS["checkpoints"]
    ),
    MODELS,
)
"""The pack's classes as if they were ComfyUI's own, whose limits, choices and link types are checked here."""

ITS_OWN_CODE = {
    "custom validation: text",
    "custom validation: false",
    "custom validation: raises",
    "custom validation names n, so its max is not checked",
    "input_types validator answers with text",
}
"""Recorded refusals by a class's own code, of which /object_info says nothing."""


def answer(body: dict[str, Any], catalogue: Catalogue) -> dict[str, Any]:
    try:
        found = validate(body.get("prompt"), catalogue, targets=body.get("partial_execution_targets"))
    except WorkflowInvalid as refused:
        error = {"type": refused.kind, "message": refused.title, "details": refused.fault_details, "extra_info": {}}
        return {"error": error, "node_errors": refused.node_errors}
    return {"node_errors": found.node_errors}


ANSWERED = [each for each in recorded_requests() if each.values[2] is not None]


@pytest.mark.parametrize(
    ("note", "body", "expected"), [each for each in ANSWERED if each.values[0] not in ITS_OWN_CODE]
)
def test_core_nodes_are_answered_for_as_recorded(note: str, body: dict[str, Any], expected: dict[str, Any]) -> None:
    wanted = {name: value for name, value in expected.items() if name in ("error", "node_errors")}
    assert comparable(sorted_lines(answer(body, ALL_CORE))) == comparable(sorted_lines(wanted))


def faults(answered: dict[str, Any]) -> set[tuple[str, str, str]]:
    return {
        (node_id, each["type"], each["details"])
        for node_id, told in answered["node_errors"].items()
        for each in told["errors"]
    }


@pytest.mark.parametrize(("note", "body", "expected"), ANSWERED)
def test_a_packs_nodes_are_refused_for_nothing_that_comfyui_took(
    note: str, body: dict[str, Any], expected: dict[str, Any]
) -> None:
    got = answer(body, WITH_PACK)
    assert faults(got) <= faults(expected)
    if "error" in got:
        assert got["error"]["type"] == expected["error"]["type"]


def test_every_recorded_note_about_a_class_with_code_of_its_own_is_there() -> None:
    assert {each.values[0] for each in ANSWERED} >= ITS_OWN_CODE


def catalogue(**shown: Any) -> Catalogue:
    """ComfyUI's nodes, and classes of a pack: `NAME={...}` gives its inputs, and what else its entry tells."""
    pack = {
        name: {
            "input": {"required": entry.get("required", {}), "optional": entry.get("optional", {})},
            "output": entry.get("output", ["IMAGE"]),
            "output_node": True,
            "python_module": entry.get("module", "custom_nodes.pack"),
        }
        for name, entry in shown.items()
    }
    return catalogue_of({**comfyui_nodes.core(), **pack}, MODELS)


def alone(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"1": {"class_type": class_type, "inputs": inputs}}


def checked(prompt: Any, catalogue: Catalogue, *files: str) -> Validated:
    return validate(prompt, catalogue, input_files=files)


def refusals(prompt: Any, catalogue: Catalogue, *files: str) -> set[str]:
    with pytest.raises(WorkflowInvalid) as refused:
        validate(prompt, catalogue, input_files=files)
    return {each["type"] for node in refused.value.node_errors.values() for each in node["errors"]}


PACK = catalogue(
    Any={
        "required": {
            "n": ["INT", {"min": 0, "max": 5}],
            "c": [["one", "two"]],
            "d": ["COMBO", {"options": ["x"]}],
            "i": ["IMAGE"],
        }
    }
)
EMPTY = {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8, "batch_size": 1, "color": 0}}
TEXT = {"class_type": "StringConcatenate", "inputs": {"string_a": "a", "string_b": "b", "delimiter": ""}}


def test_limits_choices_and_link_types_of_a_packs_class_are_left_to_its_comfyui() -> None:
    prompt = {**alone("Any", n=99, c="three", d=7, i=["2", 0]), "2": TEXT}
    assert checked(prompt, PACK).outputs == ("1",)


def test_what_every_class_must_keep_is_checked_of_a_packs_class_too() -> None:
    prompt = {**alone("Any", n="many", c=["2", 0, 0], d=["9", 0]), "2": TEXT}
    assert refusals(prompt, PACK) == {
        "invalid_input_type",
        "bad_linked_input",
        "exception_during_validation",
        "required_input_missing",
    }


def test_literals_of_a_packs_class_are_converted_as_comfyui_will() -> None:
    found = checked(alone("Any", n="4", c="one", d="x", i=1), PACK)
    assert found.workflow["1"]["inputs"]["n"] == 4


def test_a_packs_class_may_give_more_than_it_says() -> None:
    prompt = {
        "1": {"class_type": "PreviewImage", "inputs": {"images": ["2", 7]}},
        "2": alone("Any", n=1, c="one", d="x", i=1)["1"],
    }
    assert "1" in checked(prompt, PACK).outputs


@pytest.mark.parametrize(("slot", "is_taken"), [(0, True), (-1, True), (1, False), (-2, False)])
def test_a_core_classs_outputs_count_from_the_end_as_in_comfyui(slot: int, is_taken: bool) -> None:
    prompt = {"1": {"class_type": "PreviewImage", "inputs": {"images": ["2", slot]}}, "2": EMPTY}
    if is_taken:
        assert checked(prompt, PACK).outputs == ("1",)
    else:
        assert refusals(prompt, PACK) == {"exception_during_validation"}


def test_a_star_joins_with_all() -> None:
    star = catalogue(Star={"required": {"a": ["*"]}, "output": ["*"], "module": "comfy_extras.nodes_star"})
    prompt = {
        **alone("Star", a=["2", 0]),
        "2": EMPTY,
        "3": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
    }
    assert set(checked(prompt, star).outputs) == {"1", "3"}


def test_boxes_of_core_classes_join_whatever_they_offer_and_with_nothing_else() -> None:
    boxes = catalogue(
        Old={"required": {"a": [["x", "y"]]}, "output": [["z"]], "module": "nodes"},
        New={"required": {"a": ["COMBO", {"options": ["x"]}]}, "output": ["COMBO"], "module": "nodes"},
    )
    prompt = {
        "1": {"class_type": "Old", "inputs": {"a": ["2", 0]}},
        "2": {"class_type": "New", "inputs": {"a": ["3", 0]}},
        "3": {"class_type": "Old", "inputs": {"a": "x"}},
    }
    assert checked(prompt, boxes).outputs == ("1", "2", "3")
    assert refusals({**alone("Old", a=["2", 0]), "2": EMPTY}, boxes) == {"return_type_mismatch"}


NEWER = catalogue(
    Switch={
        "required": {"on": ["BOOLEAN"], "a": ["COMFY_MATCHTYPE_V3", {"template": {"template_id": "t"}}]},
        "output": ["COMFY_MATCHTYPE_V3"],
        "module": "comfy_extras.nodes_logic",
    },
    Batch={"required": {"images": ["COMFY_AUTOGROW_V3", {"template": {"prefix": "image"}}]}, "module": "nodes"},
    Resize={
        "required": {"resize": ["COMFY_DYNAMICCOMBO_V3", {"options": [{"key": "width", "inputs": {"w": ["INT"]}}]}]},
        "module": "nodes",
    },
)


def test_inputs_that_grow_follow_a_choice_or_follow_a_type_are_taken() -> None:
    prompt = {
        "1": {"class_type": "Switch", "inputs": {"on": True, "a": ["4", 0]}},
        "2": {"class_type": "Batch", "inputs": {"images.image0": ["1", 0], "images.image1": ["4", 0]}},
        "3": {"class_type": "Resize", "inputs": {"resize": "width", "resize.w": 5}},
        "4": EMPTY,
        "5": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
        "6": {"class_type": "Switch", "inputs": {"on": True}},
    }
    found = checked(prompt, NEWER)
    assert (found.outputs, found.node_errors) == (("1", "2", "3", "5", "6"), {})
    info = NEWER.node_info("Resize")["input"]["required"]["resize"]
    assert info[1] == {"options": [{"key": "width", "inputs": {"w": ["INT"]}}]}


@pytest.mark.parametrize("module", ["custom_nodes.pack", "nodes"])
def test_what_feeds_inputs_that_nobody_declared_is_looked_at(module: str) -> None:
    """Else the files that the run reads would stay at home."""
    grows = {"images": ["COMFY_AUTOGROW_V3", {}]} if module == "nodes" else {}
    loading = catalogue(Grow={"required": grows, "module": module})
    prompt = {
        **alone("Grow", any_01=["2", 0], any_02=["9", 0], any_03=[1, 2, 3], any_04="text", any_05=["2", 9]),
        "2": {"class_type": "LoadImage", "inputs": {"image": "a.png"}},
    }
    assert checked(prompt, loading, "a.png").file_references == ("a.png",)
    assert refusals(prompt, loading) == {"custom_validation_failed"}


def test_faults_and_circles_beyond_undeclared_inputs_are_left_to_the_run() -> None:
    loading = catalogue(Grow={"required": {"n": ["INT"]}})
    prompt = {
        "1": {"class_type": "Grow", "inputs": {"n": 1, "a": ["2", 0], "b": ["4", 0]}},
        "2": {"class_type": "ImageScale", "inputs": {"image": ["3", 0], "width": -1}},
        "3": {"class_type": "LoadImage", "inputs": {"image": "a.png"}},
        "4": {"class_type": "Grow", "inputs": {"n": "x", "c": ["1", 0]}},
    }
    found = checked(prompt, loading, "a.png")
    assert (found.outputs, found.file_references) == (("1",), ("a.png",))
    assert found.node_errors.keys() == {"4"}  # an output of its own, and not sound
    with pytest.raises(WorkflowInvalid) as refused:
        checked(prompt, loading)
    assert "1" in refused.value.node_errors["3"]["dependent_outputs"]
    assert "2" in refused.value.node_errors


def test_what_a_core_class_does_not_declare_is_passed_over_as_in_comfyui() -> None:
    prompt = {
        "1": {"class_type": "PreviewImage", "inputs": {"images": ["2", 0], "other": ["3", 0]}},
        "2": EMPTY,
        "3": {"class_type": "LoadImage", "inputs": {"image": "gone.png"}},
    }
    assert checked(prompt, PACK).file_references == ()


LOADERS = catalogue(
    Video={"required": {"video": [["theirs.mp4", "none"], {"video_upload": True}]}},
    Flat={"required": {"file": [["theirs.txt"], {}]}},
    FlatNew={"required": {"file": ["COMBO", {"options": ["theirs.txt"]}]}},
    Remote={"required": {"file": ["COMBO", {"remote": {"route": "/x"}}]}},
    Path={"required": {"path": ["STRING", {}]}},
)


@pytest.mark.parametrize(
    ("class_type", "name", "value", "files"),
    [
        ("Video", "video", "mine.mp4", ("mine.mp4",)),
        ("Video", "video", "mine.mp4 [input]", ("mine.mp4 [input]",)),
        ("Video", "video", "none", ()),
        ("Video", "video", "https://example.org/a.mp4", ()),
        ("Video", "video", 5, ()),
        ("Flat", "file", "mine.mp4", ("mine.mp4",)),
        ("Flat", "file", "theirs.txt", ()),
        ("Flat", "file", "unknown.txt", ()),
        ("FlatNew", "file", "mine.mp4", ("mine.mp4",)),
        ("Remote", "file", "made.png [output]", ("made.png [output]",)),
        ("Path", "path", "mine.mp4", ()),
        ("LoadLatent", "latent", "mine.mp4", ("mine.mp4",)),
        ("LoadImage", "image", "sub/mine.png", ("sub/mine.png",)),
    ],
)
@pytest.mark.parametrize("is_wrapped", [False, True])
def test_files_are_found_in_foreign_loaders(
    class_type: str, name: str, value: Any, files: tuple[str, ...], is_wrapped: bool
) -> None:
    node = alone(class_type, **{name: {"__value__": value} if is_wrapped else value})["1"]
    prompt = {"1": node, "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}}}
    if class_type == "LoadLatent":
        decoded = {"class_type": "VAEDecode", "inputs": {"samples": ["1", 0], "vae": ["4", 0]}}
        loader = {"class_type": "VAELoader", "inputs": {"vae_name": "pixel_space"}}
        prompt |= {"2": {"class_type": "PreviewImage", "inputs": {"images": ["3", 0]}}, "3": decoded, "4": loader}
    known = ("mine.mp4", "theirs.txt", "made.png [output]", "sub/mine.png")
    assert checked(prompt, LOADERS, *known).file_references == files
    assert set(files) <= set(named_files(prompt, LOADERS))


@pytest.mark.parametrize("value", ["theirs.mp4", "/etc/passwd", "..\\x", "file:///etc/passwd", "mine.mp4 [output]"])
@pytest.mark.parametrize(("class_type", "name"), [("Video", "video"), ("LoadImage", "image")])
def test_the_files_of_a_comfyui_are_no_tenants(class_type: str, name: str, value: str) -> None:
    prompt = alone(class_type, **{name: value})
    prompt["2"] = {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}}
    assert refusals(prompt, LOADERS, "mine.mp4") == {"custom_validation_failed"}


def test_a_latent_of_a_comfyui_is_no_tenants() -> None:
    prompt = {"1": {"class_type": "SaveLatent", "inputs": {"samples": ["2", 0], "filename_prefix": "x"}}}
    prompt["2"] = {"class_type": "LoadLatent", "inputs": {"latent": "gone.latent"}}
    assert refusals(prompt, LOADERS) == {"custom_validation_failed"}


def test_a_choice_that_a_core_box_does_not_offer_is_refused_unless_it_is_a_file() -> None:
    prompt = {"1": {"class_type": "SaveLatent", "inputs": {"samples": ["2", 0], "filename_prefix": "x"}}}
    prompt["2"] = {"class_type": "LatentFlip", "inputs": {"samples": ["3", 0], "flip_method": "gone.latent"}}
    prompt["3"] = {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 1}}
    assert refusals(prompt, LOADERS) == {"value_not_in_list"}
    assert checked(prompt, LOADERS, "gone.latent").file_references == ("gone.latent",)


def test_base_weights_are_named_and_words_beside_them_are_not() -> None:
    models = {"checkpoints": ["a.safetensors"], "unet_gguf": ["q.gguf"], "loras": ["l.safetensors"]}
    shown = {
        "Load": {
            "input": {
                "required": {
                    "ckpt_name": [["None", "a.safetensors"]],
                    "unet_name": ["COMBO", {"options": ["q.gguf"]}],
                    "lora_name": [["l.safetensors"]],
                }
            },
            "output_node": True,
            "python_module": "custom_nodes.pack",
        }
    }
    loading = catalogue_of(shown, models)
    prompt = alone("Load", ckpt_name="None", unet_name="q.gguf", lora_name="l.safetensors")
    prompt["2"] = alone("Load", ckpt_name="a.safetensors", unet_name="q.gguf", lora_name="x")["1"]
    assert checked(prompt, loading).models == ("q.gguf", "a.safetensors")


def test_a_class_that_is_not_there_is_refused_by_name() -> None:
    with pytest.raises(WorkflowInvalid, match="node Nope does not exist"):
        validate(alone("Nope"), WITH_PACK)


@settings(max_examples=200, deadline=None)
@given(prompt=any_workflows)
def test_any_json_ends_in_an_answer_that_json_can_hold(prompt: Any) -> None:
    try:
        found = validate(prompt, WITH_PACK, input_files=["a.png"])
    except WorkflowInvalid as refused:
        told: Any = [refused.kind, refused.title, refused.fault_details, refused.node_errors]
    else:
        told = [found.workflow, found.outputs, found.node_errors, found.file_references, found.models]
    json.dumps([told, named_files(prompt, WITH_PACK)], allow_nan=False)
