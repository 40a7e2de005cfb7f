"""Live messages become the frames that a real ComfyUI was recorded to send, in its order."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest

from limner.bus.messages import Live
from limner.comfy.dialect.frames import Frame
from limner.comfy.dialect.ordering import Arrival
from limner.comfy.dialect.socket_events import RunFrames
from tests.support.recordings import recording
from tests.unit.comfy.recordings import arrivals, runs, sockets

RECORDED = [
    *(("01", "A", "client-a"), ("02", "A", "client-a"), ("03", "A", "client-a"), ("20", "A", "client-a")),
    *(("21", "A", "client-a"), ("42", "A", "client-a"), ("42", "D", "client-d"), ("60", "A", "client-a")),
    *(("61", "D", "client-d"), ("04", "A", None)),
]


def sent(arrived: Iterable[Arrival], client: str | None, metadata: bool) -> list[Frame]:
    """The frames of a whole run for sockets with, or without, the metadata flag."""
    messages = list(arrived)
    run = RunFrames(messages[0].live.prompt_id, client)
    frames = [frame for each in messages for frame in run.apply(each.live, each.picture)]
    assert all(frame.client == client or '"status"' in str(frame.data) for frame in frames)
    return [frame for frame in frames if frame.metadata in (None, metadata)]


def same(frame: Frame, expected: dict[str, Any]) -> bool:
    if "binary" not in expected:
        return bool(json.loads(frame.data) == expected)
    assert isinstance(frame.data, bytes)
    head = bytes.fromhex(expected["binary"]["head_hex"])
    length = 64 if expected["binary"]["event"] == 4 else 16
    return frame.data[:length] == head[:length]


@pytest.mark.parametrize(("name", "letter", "client"), RECORDED)
def test_a_run_is_told_as_it_was_recorded(name: str, letter: str, client: str | None) -> None:
    (frames,) = [events for each, events in sockets(name) if each == letter]
    told = 0
    for expected in runs(frames):
        kinds = {frame.get("type") for frame in expected}
        if (client is None) == ("execution_start" in kinds) or "progress_state" not in kinds:
            continue
        seen = sent(arrivals(expected, client), client, metadata=letter == "D")
        assert [same(*pair) for pair in zip(seen, expected, strict=True)] == [True] * len(expected)
        told += 1
    assert told


def live(kind: str, seq: int = 1, **data: Any) -> Live:
    return Live(job="j", prompt_id="p", client_id="c", attempt=1, seq=seq, kind=kind, data=data)


def ref(node: str) -> dict[str, Any]:
    return {"id": node, "display": node, "parent": None, "real": node}


def types(frames: Iterable[Frame]) -> list[str]:
    return ["picture" if isinstance(frame.data, bytes) else json.loads(frame.data)["type"] for frame in frames]


def ended(state: str, messages: list[Any] = [], error: dict[str, Any] | None = None) -> Live:  # noqa: B006
    return live("Ended", state=state, queue_remaining=0, last_seq=0, messages=messages, error=error)


def test_a_canceled_job_whose_worker_was_lost_counts_as_interrupted() -> None:
    frames = list(RunFrames("p", "c").apply(ended("canceled")))
    assert types(frames) == ["execution_interrupted", "status", "executing"]
    assert json.loads(frames[0].data)["data"].keys() == {"prompt_id", "node_id", "node_type", "executed", "timestamp"}


def test_a_job_that_no_worker_could_finish_ends_in_an_error_that_says_why() -> None:
    error = {"code": "worker_lost", "message": "its worker died three times"}
    frames = list(RunFrames("p", "c").apply(ended("failed", error=error)))
    assert types(frames) == ["execution_error", "status", "executing"]
    told = json.loads(frames[0].data)["data"]
    assert (told["exception_type"], told["exception_message"]) == ("worker_lost", "its worker died three times")
    assert (told["prompt_id"], told["traceback"], told["current_inputs"]) == ("p", [], {})


def test_an_interruption_without_a_client_is_told_to_all() -> None:
    message = ["execution_interrupted", {"prompt_id": "p", "timestamp": 1}]
    frames = list(RunFrames("p", None).apply(ended("canceled", [message])))
    assert types(frames) == ["execution_interrupted", "status"]


def test_a_picture_that_comes_after_its_step_is_shown_at_once() -> None:
    run = RunFrames("p", "c")
    list(run.apply(live("NodeStarted", node=ref("1"))))
    step, picture = (
        live("StepDone", node=ref("1"), value=1, maximum=2),
        live("PreviewReady", node=ref("1"), image_type="image/png"),
    )
    assert types(run.apply(step)) == ["progress_state", "progress"]
    assert types(run.apply(picture, b"x")) == ["picture", "picture"]


def test_a_picture_whose_step_was_lost_is_shown_before_what_follows() -> None:
    run = RunFrames("p", "c")
    list(run.apply(live("NodeStarted", node=ref("1"))))
    assert types(run.apply(live("PreviewReady", node=ref("1"), image_type="image/png"), b"x")) == []
    assert types(run.apply(live("NodeFinished", node=ref("1"), cached=False))) == [
        "picture",
        "picture",
        "progress_state",
    ]


def test_the_runs_own_end_and_unknown_news_are_no_words_of_comfyui() -> None:
    run = RunFrames("p", "c")
    for message in (live("RunSucceeded", timestamp_ms=1), live("SomethingNew")):
        assert list(run.apply(message)) == []


def test_snapshots_of_a_huge_run_stay_small_in_all_but_the_last_tells_everything() -> None:
    run = RunFrames("p", "c")
    frames: list[Frame] = []
    for n in range(10_000):
        frames += run.apply(live("NodeStarted", node=ref(str(n))))
        frames += run.apply(live("NodeFinished", node=ref(str(n)), cached=False))
    frames += run.apply(ended("succeeded", [["execution_success", {"prompt_id": "p", "timestamp": 1}]]))
    snapshots = [frame.data for frame in frames if frame.snapshot]
    assert sum(map(len, snapshots)) < 64 * 1024 * 1024
    nodes = json.loads(snapshots[-1])["data"]["nodes"]
    assert len(nodes) == 10_000
    assert {state["state"] for state in nodes.values()} == {"finished"}
    assert types(frames).count("executing") == 10_001


def test_numbers_that_json_does_not_have_become_null() -> None:
    output = live("NodeOutput", node=ref("1"), ui={"values": [1.5, float("nan"), float("inf")]}, cached=False)
    (frame,) = RunFrames("p", "c").apply(output)
    assert json.loads(frame.data, parse_constant=pytest.fail)["data"]["output"] == {"values": [1.5, None, None]}


def test_a_warning_is_shown_as_text_at_its_node() -> None:
    """Worded as the text frame of the recording: kind 3, the length of the node's id, the id, the text."""
    (frame,) = RunFrames("p", "c").apply(live("Warned", node=ref("1"), text="héllo"))
    assert frame.data == bytes.fromhex("00000003000000013168c3a96c6c6f")
    assert list(RunFrames("p", None).apply(live("Warned", node=ref("1"), text="héllo"))) == []


def test_a_nodes_own_words_are_shown_at_it_and_newer_ones_outdate_them() -> None:
    run = RunFrames("p", "c")
    (first,) = run.apply(live("TextShown", node=ref("1"), text="héllo"))
    assert first.data == bytes.fromhex("00000003000000013168c3a96c6c6f")
    (second,), (other,) = (list(run.apply(live("TextShown", node=ref(each), text="x"))) for each in ("1", "2"))
    assert first.snapshot == second.snapshot != other.snapshot
    assert list(RunFrames("p", None).apply(live("TextShown", node=ref("1"), text="x"))) == []


def test_a_packs_event_reaches_the_client_under_its_own_name_with_the_callers_prompt_id() -> None:
    """The engine knows the prompt by the job's id ("j"); an old ComfyUI by one of its own."""
    data = {"prompt_id": "engine's", "about": [{"id": "j", "j": 1}, "job j", 5], "name": "n", "event": "e"}
    (frame,) = RunFrames("p", "c").apply(live("PackEvent", name="pack.done", data=data))
    assert frame.client == "c"
    assert json.loads(frame.data) == {
        "type": "pack.done",
        "data": {"prompt_id": "p", "about": [{"id": "p", "p": 1}, "job j", 5], "name": "n", "event": "e"},
    }
    assert list(RunFrames("p", None).apply(live("PackEvent", name="pack.done", data=data))) == []


def test_a_packs_event_for_everyone_reaches_everyone_whoever_queued_the_run() -> None:
    for client in ("c", None):
        (frame,) = RunFrames("p", client).apply(live("PackEvent", name="pack.done", data={"a": 1}, everyone=True))
        assert frame.client is None
        assert json.loads(frame.data) == {"type": "pack.done", "data": {"a": 1}}


def test_a_blocked_node_is_told_as_the_recording_has_it_and_the_run_goes_on() -> None:
    transcript = recording("53")
    [socket] = [each for each in transcript["websockets"] if each["client"] == "A"]
    [recorded] = [each for each in socket["events"] if each.get("type") == "execution_error"]
    data = recorded["data"]
    run = RunFrames(data["prompt_id"], "client-a")
    node = {"id": "3", "display": "3", "parent": None, "real": "3"}
    said = {"node": node, "node_type": "ImageInvert", "message": "stop here", "executed": data["executed"]}
    (frame,) = run.apply(live("NodeBlocked", **said))
    assert json.loads(frame.data) == recorded
    assert list(RunFrames("p", None).apply(live("NodeBlocked", **said))) == []


def test_a_packs_event_without_a_prompt_gets_none() -> None:
    (frame,) = RunFrames("p", "c").apply(live("PackEvent", name="pack.note", data={"a": 1}))
    assert json.loads(frame.data) == {"type": "pack.note", "data": {"a": 1}}


def test_a_worker_that_goes_on_with_a_run_does_not_begin_it_twice_for_its_client() -> None:
    run = RunFrames("p", "c")
    start, cached = live("RunStarted", timestamp_ms=1), live("NodesCached", nodes=["1"], timestamp_ms=1)
    told = [types(run.apply(each)) for each in (start, cached, start, cached)]
    assert told == [["execution_start"], ["execution_cached"], [], []]


@pytest.mark.parametrize("told_by_the_run", [True, False])
def test_what_a_comfyui_refused_stands_in_the_error_that_its_caller_gets(told_by_the_run: bool) -> None:
    refusal = {"error": {"type": "prompt_outputs_failed_validation"}, "node_errors": {"3": {"errors": []}}}
    error = {"code": "workflow_refused", "exception_message": "no", **refusal}
    messages = [["execution_error", {"prompt_id": "p", **error}]] if told_by_the_run else []
    frame = next(iter(RunFrames("p", "c").apply(ended("failed", messages, error))))
    told = json.loads(frame.data)["data"]
    assert {name: told[name] for name in refusal} == refusal
