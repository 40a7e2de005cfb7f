"""Ends of prompts as a real ComfyUI's history tells them."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limner.worker.engines.comfyui.history import ended, ending_of
from tests.support.recordings import history, recording
from tests.support.workflows import json_values

FAILED = "00000000-0000-4000-8000-000000000020"
INTERRUPTED = "00000000-0000-4000-8000-000000000021"
PARTLY = "00000000-0000-4000-8000-000000000011"


def entry(number: str, prompt_id: str) -> dict[str, Any]:
    return history(recording(number), prompt_id)


def told(*messages: list[Any], status: str = "error") -> dict[str, Any]:
    return {"outputs": {}, "status": {"status_str": status, "completed": False, "messages": list(messages)}}


def test_a_prompt_that_succeeded_has_its_outputs_and_their_nodes() -> None:
    ending = ending_of(entry("11", PARTLY))
    assert ending.outcome == "succeeded"
    assert ending.outputs == {"4": {"images": [{"filename": "anchor_00007_.png", "subfolder": "", "type": "output"}]}}
    assert ending.meta == {"4": {"node_id": "4", "display_node": "4", "parent_node": None, "real_node_id": "4"}}
    run = ended(ending, outputs=ending.outputs, files=[], models=["a.safetensors"])
    assert (run.outcome, run.models, run.outputs) == ("succeeded", ["a.safetensors"], ending.outputs)


def test_a_failure_keeps_the_nodes_words() -> None:
    run = ended(ending_of(entry("20", FAILED)), outputs={}, files=[])
    assert run.outcome == "failed"
    assert run.end["node"] == {"id": "9", "display": "9", "parent": None, "real": "9"}
    assert (run.end["node_type"], run.end["exception_type"]) == ("ApRaise", "ValueError")
    assert run.end["exception_message"] == "boom\n"
    assert run.end["current_inputs"]["text"] == ["boom"]
    assert sorted(run.end["current_outputs"]) == ["1", "2", "3", "4", "9"]
    assert sorted(run.end["executed"]) == ["1", "2"]
    assert (run.end["code"], run.end["retryable"]) == ("node_error", False)


def test_an_interrupt_is_none_though_its_status_says_error() -> None:
    found = entry("21", INTERRUPTED)
    assert found["status"]["status_str"] == "error"
    run = ended(ending_of(found), outputs={}, files=[])
    assert run.outcome == "interrupted"
    assert run.end["node"]["real"] == "2"
    assert (run.end["node_type"], run.end["executed"]) == ("ApMutated", ["1"])


def test_a_blocked_node_does_not_fail_its_prompt() -> None:
    ending = ending_of(entry("53", "00000000-0000-4000-8000-000000000101"))
    assert (ending.outcome, list(ending.outputs)) == ("succeeded", ["5"])


@pytest.mark.parametrize("number", ["01", "02", "03", "11", "20", "21", "53", "58"])
def test_every_recorded_end_is_understood(number: str) -> None:
    exchanges = recording(number)["exchanges"]
    entries = [
        each
        for exchange in exchanges
        if exchange["request"]["path"].startswith("/history/")
        for each in exchange["response"]["json"].values()
    ]
    assert entries
    for each in entries:
        ending = ending_of(each)
        last = each["status"]["messages"][-1][0]
        assert f"execution_{ending.outcome}".replace("succeeded", "success").replace("failed", "error") == last
        assert set(ending.meta) == set(ending.outputs) == set(each["outputs"])


def test_the_time_of_the_end_is_the_instances() -> None:
    data = {"prompt_id": "p", "timestamp": 1700000000123}
    run = ended(ending_of(told(["execution_success", data], status="success")), outputs={}, files=[])
    assert run.end == {"timestamp_ms": 1700000000123}


def test_a_time_that_is_none_is_left_out() -> None:
    run = ended(ending_of(told(["execution_success", {"timestamp": None}], status="success")), outputs={}, files=[])
    assert run.end == {}


def test_an_error_without_a_word_is_a_failure() -> None:
    run = ended(ending_of(told(["execution_start", {}])), outputs={}, files=[])
    assert (run.outcome, run.end["code"]) == ("failed", "run_failed")
    assert run.end["exception_message"]


def test_messages_decide_where_no_status_is_told() -> None:
    assert ending_of({"outputs": {}}).outcome == "succeeded"
    assert ending_of({"status": {"messages": [["execution_error", {}]]}}).outcome == "failed"
    assert ending_of({"status": {"messages": ["?", ["execution_interrupted", None]]}}).outcome == "interrupted"


def test_old_versions_tell_no_meta() -> None:
    ending = ending_of({"outputs": {"7": {"text": ["x"]}, "8": ["no object"]}, "status": {"status_str": "success"}})
    assert ending.outputs == {"7": {"text": ["x"]}}
    assert ending.meta == {"7": {"node_id": "7", "display_node": "7", "parent_node": None, "real_node_id": "7"}}


def test_what_no_database_holds_is_mended() -> None:
    told = {"7": {"text": ["half \ud800"], "number": [math.nan, 1.5], "deep": _nested(100)}}
    outputs = ending_of({"outputs": told, "status": {"status_str": "success"}}).outputs
    assert outputs["7"]["text"] == ["half ?"]
    assert outputs["7"]["number"] == [None, 1.5]
    assert str(outputs["7"]["deep"]).count("[") < 64


@settings(max_examples=100, deadline=None)
@given(
    json_values,
    st.fixed_dictionaries(
        {}, optional={"outputs": st.dictionaries(st.text(max_size=3), json_values), "meta": json_values}
    ),
    st.lists(
        st.tuples(st.sampled_from(["execution_success", "execution_error", "execution_interrupted"]), json_values)
    ),
)
def test_whatever_an_entry_holds_it_is_some_end_that_can_be_kept(
    status: Any, entry: dict[str, Any], messages: list[Any]
) -> None:
    told = {"status_str": status, "messages": [list(each) for each in messages]}
    for ending in (ending_of({**entry, "status": status}), ending_of({**entry, "status": told})):
        run = ended(ending, outputs=ending.outputs, files=[])
        json.dumps([run.end, run.outputs, run.meta], allow_nan=False, ensure_ascii=False).encode()


def _nested(depth: int) -> Any:
    value: Any = "core"
    for _ in range(depth):
        value = [value]
    return value
