"""Validation: ComfyUI's answers word for word, and no input that breaks it."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limner.errors import WorkflowInvalid, WorkflowIsEditorFormat
from limner.graph.catalogue import Catalogue
from limner.graph.spec import InputSpec, NodeSpec, OutputSpec
from limner.graph.validate import Validated, validate
from limner.graph.workflow import Workflow
from tests.support import toys
from tests.support.recordings import comparable, prompts, recording
from tests.support.workflows import any_workflows, json_values, likely_workflows, node_ids

CATALOGUE = toys.catalogue()
TYPES = {"i": 2, "f": 0.5, "s": "x", "b": True, "c": "one"}
EMPTY_IMAGE = {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8, "batch_size": 1, "color": 0}}

DEVIATIONS = {
    "prompt is null": (
        "no_prompt",
        "the original answers 500, which tells nobody anything",
    ),
    "V3 combo: value not among the options": (
        "prompt_outputs_failed_validation",
        "section 7, fault 4: the original accepts it and fails inside the node",
    ),
    "link slot negative": (
        "prompt_outputs_failed_validation",
        "section 7, fault 5: the original counts it from the end",
    ),
}


def answer(body: dict[str, Any], **options: Any) -> dict[str, Any]:
    """What POST /prompt would answer: status, error and node errors."""
    targets = body.get("partial_execution_targets")
    try:
        found = validate(body.get("prompt"), CATALOGUE, targets=targets, custom_check=toys.custom_check, **options)
    except WorkflowInvalid as refused:
        error = {"type": refused.kind, "message": refused.title, "details": refused.fault_details, "extra_info": {}}
        return {"error": error, "node_errors": refused.node_errors}
    return {"node_errors": found.node_errors}


def recorded_requests() -> list[Any]:
    cases = []
    for name in ("05", "10", "11", "12", "13"):
        for number, exchange in enumerate(recording(name)["exchanges"]):
            request, response = exchange["request"], exchange["response"]
            body = request.get("json")
            if request["path"] != "/prompt" or request["method"] != "POST" or not isinstance(body, dict):
                continue  # bodies that are no JSON object are the gateway's to refuse
            expected = response.get("json") if response["status"] < 500 else None
            note = request.get("note") or f"request {number}"
            if "extra_data" in note or note.startswith("number "):
                continue  # the prompt itself is sound: the fault is in a field beside it
            cases.append(pytest.param(note, body, expected, id=f"{name}: {note}"))
    return cases


def sorted_lines(answered: dict[str, Any]) -> dict[str, Any]:
    """`details` lists the outputs' errors, whose order is not fixed in the original."""
    if "error" not in answered:
        return answered
    error = {**answered["error"], "details": sorted(answered["error"]["details"].split("\n"))}
    return {**answered, "error": error}


@pytest.mark.parametrize(("note", "body", "expected"), recorded_requests())
def test_answers_as_recorded(note: str, body: dict[str, Any], expected: dict[str, Any] | None) -> None:
    got = answer(body)
    if note in DEVIATIONS:
        assert got["error"]["type"] == DEVIATIONS[note][0], DEVIATIONS[note][1]
        return
    assert expected is not None
    wanted = {name: value for name, value in expected.items() if name in ("error", "node_errors")}
    assert comparable(sorted_lines(got)) == comparable(sorted_lines(wanted))


def test_every_deviation_is_among_the_recordings() -> None:
    assert {note for note, _, _ in (each.values for each in recorded_requests())} >= set(DEVIATIONS)


@pytest.mark.parametrize("prompt_id", [12, 13])
def test_literals_are_converted_as_recorded(prompt_id: int) -> None:
    transcript = recording("12")
    full_id = f"00000000-0000-4000-8000-0000000000{prompt_id}"
    [body] = [each for each in prompts(transcript) if each["prompt_id"] == full_id]
    [entry] = [
        exchange["response"]["json"][full_id]
        for exchange in transcript["exchanges"]
        if exchange["request"]["path"] == f"/history/{full_id}"
    ]
    found = validate(body["prompt"], CATALOGUE)
    assert found.workflow == entry["prompt"][2]
    kinds = [type(value) for value in found.workflow["1"]["inputs"].values()]
    assert kinds == [type(value) for value in entry["prompt"][2]["1"]["inputs"].values()]


def test_the_callers_prompt_is_left_alone() -> None:
    prompt: dict[str, Any] = {"1": {"class_type": "ApTypes", "inputs": {**TYPES, "i": "4"}}}
    assert validate(prompt, CATALOGUE).workflow["1"]["inputs"]["i"] == 4
    assert prompt["1"]["inputs"]["i"] == "4"


def test_a_wrapped_list_that_looks_like_a_link_stays_wrapped() -> None:
    wrapped = {"__value__": ["1", 0]}
    prompt = {"1": {"class_type": "ApShow", "inputs": {"v": wrapped}}}
    assert validate(prompt, CATALOGUE).workflow["1"]["inputs"]["v"] == wrapped


def types_node(**changed: Any) -> dict[str, Any]:
    return {"1": {"class_type": "ApTypes", "inputs": {**TYPES, **changed}}}


def faults_of(prompt: Any, node_id: str = "1") -> dict[str, str]:
    """Error types of one node, by what they are about."""
    with pytest.raises(WorkflowInvalid) as refused:
        validate(prompt, CATALOGUE)
    errors = refused.value.node_errors[node_id]["errors"]
    return {each["extra_info"].get("input_name", each["details"]): each["type"] for each in errors}


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), float("-inf"), "nan", "-inf", "1e999", 10**400, "9" * 5000]
)
@pytest.mark.parametrize("name", ["i", "f"])
def test_numbers_that_are_none_are_refused(name: str, value: Any) -> None:
    found = faults_of(types_node(**{name: value}))
    assert found[name] in ("invalid_input_type", "value_bigger_than_max")
    assert found[name] == "invalid_input_type" or (name, value) == ("i", 10**400)


@pytest.mark.parametrize("place", [{"_meta": {"x": float("nan")}}, {"inputs": {**TYPES, "extra": [[float("inf")]]}}])
def test_a_number_that_json_cannot_hold_is_refused_wherever_it_stands(place: dict[str, Any]) -> None:
    with pytest.raises(WorkflowInvalid, match="not finite"):
        validate({"1": {**types_node()["1"], **place}}, CATALOGUE)


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value",
    [{"a": {"b": "\ud800"}}, "\udfff", {"\ud800": 1}, 10**5000, nested(80), nested(5_000)],
    ids=["surrogate inside", "surrogate", "surrogate key", "5000 digits", "80 deep", "5000 deep"],
)
def test_what_cannot_be_kept_is_refused(value: Any) -> None:
    with pytest.raises(WorkflowInvalid, match="Cannot execute because a node holds"):
        validate(types_node(extra=value), CATALOGUE)


def test_all_faults_are_told_at_once() -> None:
    prompt = {
        "1": {"class_type": "ApTypes", "inputs": {"i": 99, "f": "x", "s": ["7", 0], "c": "three", "image": ["2", 0]}},
        "2": {"class_type": "EmptyImage", "inputs": {"width": 0, "height": "tall", "batch_size": [1]}},
        "3": {"class_type": "PreviewImage", "inputs": {"images": ["2", 5]}},
    }
    with pytest.raises(WorkflowInvalid) as refused:
        validate(prompt, CATALOGUE)
    assert faults_of(prompt) == {
        "i": "value_bigger_than_max",
        "f": "invalid_input_type",
        "b": "required_input_missing",
        "c": "value_not_in_list",
        "'7'": "exception_during_validation",
    }
    assert faults_of(prompt, "2") == {
        "width": "value_smaller_than_min",
        "height": "invalid_input_type",
        "batch_size": "bad_linked_input",
        "color": "required_input_missing",
    }
    errors = refused.value.node_errors
    assert (errors["1"]["dependent_outputs"], errors["2"]["dependent_outputs"]) == (["1"], ["1"])
    assert errors["3"]["errors"][0]["details"] == "tuple index out of range"


def test_only_the_wanted_outputs_are_looked_at() -> None:
    prompt = {**types_node(i=99), "2": EMPTY_IMAGE, "3": {"class_type": "PreviewImage", "inputs": {"images": ["2", 0]}}}
    found = validate(prompt, CATALOGUE, targets=["3"])
    assert (found.outputs, found.node_errors) == (("3",), {})


@pytest.mark.parametrize("targets", [[], ["9"], [3], [None], [["3"]]])
def test_targets_that_name_no_output_leave_nothing_to_run(targets: list[Any]) -> None:
    with pytest.raises(WorkflowInvalid) as refused:
        validate(types_node(), CATALOGUE, targets=targets)
    assert refused.value.kind == "prompt_no_outputs"


def test_files_and_models_of_the_run_are_named() -> None:
    prompt = {
        "1": {"class_type": "LoadImage", "inputs": {"image": "a.png"}},
        "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
        "3": {"class_type": "LoadImage", "inputs": {"image": "b.png [output]"}},
        "4": {"class_type": "PreviewImage", "inputs": {"images": ["3", 0]}},
        "5": {"class_type": "LoadImage", "inputs": {"image": "gone.png"}},
        "6": {"class_type": "PreviewImage", "inputs": {"images": ["5", 0]}},
        "7": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "anchor_sd15.safetensors"}},
        "8": {"class_type": "ApShow", "inputs": {"v": ["7", 0]}},
    }
    found = validate(prompt, CATALOGUE, input_files=["a.png", "b.png [output]"])
    assert found.outputs == ("2", "4", "8")
    assert found.file_references == ("a.png", "b.png [output]")
    assert found.models == ("anchor_sd15.safetensors",)
    assert found.node_errors["5"]["errors"][0]["details"] == "image - Invalid image file: gone.png"


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("a.png", True),
        ("a.png [input]", True),
        ("b.png [output]", True),
        ("a.png [output]", False),
        ("b.png [temp]", False),
        ("b.png", False),
        ("b.png [input]", False),
        (5, False),
    ],
)
def test_a_file_is_looked_for_where_its_mark_says(name: object, known: bool) -> None:
    prompt = {
        "1": {"class_type": "LoadImage", "inputs": {"image": name}},
        "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
        "3": {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8, "batch_size": 1, "color": 0}},
        "4": {"class_type": "PreviewImage", "inputs": {"images": ["3", 0]}},
    }
    found = validate(prompt, CATALOGUE, input_files=["a.png", "b.png [output]"])
    assert found.outputs == (("2", "4") if known else ("4",))
    told = [each["details"] for each in found.node_errors.get("1", {"errors": []})["errors"]]
    assert told == ([] if known else [f"image - Invalid image file: {name}"])


def test_an_unknown_checkpoint_is_not_in_the_list() -> None:
    prompt = {
        "7": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "other.safetensors"}},
        "8": {"class_type": "ApShow", "inputs": {"v": ["7", 0]}},
    }
    assert faults_of(prompt, "7") == {"ckpt_name": "value_not_in_list"}


def test_a_node_that_no_output_needs_may_be_any_rubbish() -> None:
    rubbish = {"8": {"class_type": "ApInt", "inputs": [1]}, "9": {"class_type": "ApInt"}}
    found = validate({**types_node(), **rubbish}, CATALOGUE)
    assert set(Workflow.parse(found.workflow).nodes) == {"1", "8", "9"}


def test_the_editors_format_is_recognised_and_the_way_out_named() -> None:
    saved = {"last_node_id": 9, "nodes": [{"id": 1, "type": "KSampler"}], "links": [], "version": 0.4}
    with pytest.raises(WorkflowIsEditorFormat, match=r"Workflow > Export \(API\)"):
        validate(saved, CATALOGUE)


def test_a_circle_is_told_to_people_and_worded_as_recorded() -> None:
    prompt = {
        "1": {"class_type": "ImageInvert", "inputs": {"image": ["2", 0]}},
        "2": {"class_type": "ImageInvert", "inputs": {"image": ["1", 0]}},
        "3": {"class_type": "PreviewImage", "inputs": {"images": ["2", 0]}},
        "4": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
    }
    with pytest.raises(WorkflowInvalid, match="feed each other in a circle") as refused:
        validate(prompt, CATALOGUE)
    assert (refused.value.title, refused.value.fault_details) == ("Prompt outputs failed validation", "")
    assert refused.value.node_errors == {}


def test_a_circle_does_not_spoil_another_output() -> None:
    prompt = {
        "1": {"class_type": "ImageInvert", "inputs": {"image": ["1", 0]}},
        "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
        "3": {"class_type": "ApShow", "inputs": {"v": 1}},
    }
    assert validate(prompt, CATALOGUE).outputs == ("3",)


OPEN = Catalogue(
    nodes={
        "Open": NodeSpec(
            name="Open", display_name="Open", category="toy", output_node=True, open_inputs=True,
            inputs=(InputSpec(name="a", type="INT"),), outputs=(OutputSpec(name="INT", type="INT"),),
        )
    }
)  # fmt: skip


def test_a_node_with_open_inputs_is_followed_through_all_of_them() -> None:
    prompt = {"1": {"class_type": "Open", "inputs": {"a": 1, "more": ["9", 0]}}}
    with pytest.raises(WorkflowInvalid) as refused:
        validate(prompt, OPEN)
    assert refused.value.fault_details == "Exception when validating node: '9'"


def chain(length: int) -> dict[str, Any]:
    prompt: dict[str, Any] = {"0": EMPTY_IMAGE}
    for number in range(1, length):
        prompt[str(number)] = {"class_type": "ImageInvert", "inputs": {"image": [str(number - 1), 0]}}
    prompt["out"] = {"class_type": "PreviewImage", "inputs": {"images": [str(length - 1), 0]}}
    return prompt


def seconds(prompt: dict[str, Any]) -> float:
    best = 1e9
    for _ in range(3):
        start = time.process_time()
        validate(prompt, CATALOGUE)
        best = min(best, time.process_time() - start)
    return best


def test_a_chain_of_ten_thousand_nodes_takes_linear_time() -> None:
    assert seconds(chain(10_000)) < 30 * seconds(chain(1_000)) + 0.1


def test_thousands_of_bad_nodes_and_outputs_give_an_answer_that_stays_small() -> None:
    prompt = chain(2_000)
    for number in range(2_000):
        prompt[f"bad {number}"] = {"class_type": "PreviewImage", "inputs": {"images": [str(number), 0]}}
    prompt["0"] = {"class_type": "EmptyImage", "inputs": {}}
    for number in range(1, 2_000):
        prompt[str(number)]["inputs"] = {"image": [str(number - 1), 0, 0]} if number % 2 else {"image": ["0", 9]}
    with pytest.raises(WorkflowInvalid) as refused:
        validate(prompt, CATALOGUE)
    assert sum(len(each["dependent_outputs"]) for each in refused.value.node_errors.values()) < 64 * 2_100


@settings(max_examples=300, deadline=None)
@given(prompt=any_workflows, targets=st.none() | st.lists(node_ids | json_values, max_size=2))
def test_any_json_ends_in_an_answer_that_json_can_hold(prompt: Any, targets: Any) -> None:
    try:
        found = validate(prompt, CATALOGUE, targets=targets, custom_check=toys.custom_check)
    except WorkflowInvalid as refused:
        told: Any = [refused.kind, refused.title, refused.fault_details, refused.node_errors]
    else:
        assert isinstance(found, Validated)
        told = [found.workflow, found.outputs, found.node_errors, found.file_references, found.models]
    json.dumps(told, allow_nan=False, ensure_ascii=False).encode()


@settings(max_examples=300, deadline=None)
@given(prompt=likely_workflows())
def test_what_was_accepted_is_accepted_again_unchanged(prompt: Any) -> None:
    try:
        found = validate(prompt, CATALOGUE)
    except WorkflowInvalid:
        return
    Workflow.parse(found.workflow)
    again = validate(found.workflow, CATALOGUE)
    assert (again.workflow, again.outputs) == (found.workflow, found.outputs)
