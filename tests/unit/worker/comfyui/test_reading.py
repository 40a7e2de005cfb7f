"""The events made of a real ComfyUI's messages become its own frames again."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import pytest

from limner.bus.messages import Live
from limner.comfy.dialect.socket_events import RunFrames
from limner.engine import events
from limner.worker.engines.comfyui.frames import Message, Pictured, Said, Worded, parse
from limner.worker.engines.comfyui.reading import Reading
from limner.worker.engines.port import EngineEvent
from tests.support.recordings import comparable, history, prompts, recording, run_events

RUNS = [
    "01",
    "02",
    "03",
    "05",
    "11",
    "12",
    "20",
    "21",
    "22",
    "24",
    "41",
    "42",
    "53",
    "54",
    "55",
    "56",
    "57",
    "58",
    "60",
]
ENDS = ("execution_success", "execution_error", "execution_interrupted")
JOB = "job-1"


def heard(transcript: dict[str, Any]) -> list[Message]:
    """What client A's sockets were sent."""
    found = []
    for socket in transcript["websockets"]:
        if socket["client"].startswith("A"):
            for each in socket["events"]:
                message = parse(json.dumps(each)) if "type" in each else picture(each)
                if message is not None:
                    found.append(message)
    return found


def picture(event: dict[str, Any]) -> Message | None:
    binary = event.get("binary", {})
    match binary.get("event"):
        case 1:
            return Pictured(image_type="image/png", picture=b"png")
        case 3:
            return Worded(node=binary["node_id"], text=binary["text"])
        case 4:
            return Pictured(image_type="image/jpeg", picture=b"jpeg", about=binary["metadata"])
    return None


def told(reading: Reading, messages: list[Message]) -> list[EngineEvent]:
    return [event for message in messages for event in reading.read(message)]


def kinds(made: list[EngineEvent]) -> list[str]:
    return [each.kind for each in made]


def shown(prompt_id: str, made: list[EngineEvent]) -> list[dict[str, Any]]:
    """The text frames that sockets of Limner get of these events."""
    frames = RunFrames(prompt_id, "client-a")
    texts = []
    for seq, event in enumerate(made):
        live = Live(
            job=JOB, prompt_id=prompt_id, client_id="client-a", attempt=1, seq=seq, kind=event.kind, data=event.data
        )
        texts += [frame.data for frame in frames.apply(live, event.picture) if isinstance(frame.data, str)]
    return [comparable(json.loads(text)) for text in texts]


@pytest.mark.parametrize("name", RUNS)
def test_recorded_runs_come_out_as_they_came_in(name: str) -> None:
    transcript = recording(name)
    messages = heard(transcript)
    for prompt in prompts(transcript):
        prompt_id = prompt.get("prompt_id")
        if prompt_id is None or prompt.get("client_id") != "client-a":
            continue
        reading = Reading(str(prompt_id))
        made = told(reading, messages)
        if not made:
            continue
        expected = [
            event
            for event in run_events({"websockets": [{"client": "A", "events": joined(transcript)}]}, str(prompt_id))
            if event["type"] not in ENDS
        ]
        comparable_frames = [frame for frame in shown(str(prompt_id), made) if frame["type"] not in ENDS]
        assert comparable_frames == expected
        assert reading.over
        assert reading.end is not None


def joined(transcript: dict[str, Any]) -> list[dict[str, Any]]:
    """What all of A's sockets heard; the greeting of one that joins during a run is no event of the run."""
    return [
        event
        for socket in transcript["websockets"]
        if socket["client"].startswith("A")
        for event in socket["events"]
        if event.get("type") != "executing" or "prompt_id" in event["data"]
    ]


def test_data_of_the_events_fit_the_classes_that_they_are_named_after() -> None:
    for name in RUNS:
        transcript = recording(name)
        for prompt in prompts(transcript):
            for event in told(Reading(str(prompt.get("prompt_id")), watched=True), heard(transcript)):
                made = getattr(events, event.kind)(**event.data, **({"data": b""} if event.picture else {}))
                assert asdict(made)


def test_a_blocked_node_ends_nothing() -> None:
    transcript = recording("53")
    prompt_id = "00000000-0000-4000-8000-000000000101"
    reading = Reading(prompt_id)
    made = told(reading, heard(transcript))
    [blocked] = [event for event in made if event.kind == "PackEvent"]
    assert blocked.data["name"] == "execution_error"
    assert blocked.data["data"]["exception_type"] == "ExecutionBlocked"
    assert reading.end is not None
    assert reading.end[0] == "execution_success"


def test_words_and_events_of_packs_are_passed_on_while_the_prompt_runs() -> None:
    transcript = recording("43")
    [prompt] = prompts(transcript)
    reading = Reading(str(prompt["prompt_id"]))
    made = told(reading, heard(transcript))
    [text] = [event for event in made if event.kind == "TextShown"]
    assert text.data == {"node": {"id": "1", "display": "1", "parent": None, "real": "1"}, "text": "héllo"}
    assert [event.data for event in made if event.kind == "PackEvent"] == [
        {"name": "anchor.custom", "data": {"v": 1}},
        {"name": "anchor.broadcast", "data": {"v": 1}},
    ]
    late = Said(name="anchor.broadcast", data={"v": 2})
    assert not told(reading, [late])
    assert not told(Reading("another"), [late, Worded(node="1", text="not ours")])


def test_a_result_from_the_cache_is_finished_without_a_beginning() -> None:
    transcript = recording("02")
    [prompt_id] = {str(prompt["prompt_id"]) for prompt in prompts(transcript)} & set(histories(transcript))
    made = told(Reading(prompt_id), heard(transcript))
    assert kinds(made) == ["RunStarted", "NodesCached", "NodeOutput", "NodeFinished"]
    assert made[2].data["cached"]
    assert made[3].data["cached"]


def histories(transcript: dict[str, Any]) -> list[str]:
    paths = (exchange["request"]["path"] for exchange in transcript["exchanges"])
    return [path.removeprefix("/history/") for path in paths if path.startswith("/history/")]


def test_previews_are_passed_on_only_while_somebody_watches() -> None:
    transcript = recording("42")
    messages = heard(transcript)
    for prompt in prompts(transcript):
        reading = Reading(str(prompt["prompt_id"]))
        assert "PreviewReady" not in kinds(told(reading, messages))
    reading = Reading("00000000-0000-4000-8000-000000000082", watched=True)
    pictures = [event for event in told(reading, messages) if event.kind == "PreviewReady"]
    assert [event.picture for event in pictures] == [b"png"] * len(pictures)
    assert {event.data["node"]["id"] for event in pictures} == {"1"}


def test_a_preview_says_itself_which_prompt_it_shows() -> None:
    reading = Reading("mine", watched=True)
    begun = [said("execution_start", prompt_id="mine"), said("executing", node="3", prompt_id="mine")]
    about = {"node_id": "3.0.1", "display_node_id": "3", "parent_node_id": "3", "real_node_id": "3"}
    other = Pictured(image_type="image/png", picture=b"x", about=about | {"prompt_id": "theirs"})
    ours = Pictured(image_type="image/png", picture=b"x", about=about | {"prompt_id": "mine"})
    [event] = [event for event in told(reading, [*begun, other, ours]) if event.kind == "PreviewReady"]
    assert event.data["node"] == {"id": "3.0.1", "display": "3", "parent": "3", "real": "3"}


def said(name: str, /, **data: Any) -> Said:
    return Said(name=name, data=data)


def test_a_version_without_progress_state_finishes_a_node_when_the_next_one_begins() -> None:
    reading = Reading("p")
    run: list[Message] = [
        said("execution_start", prompt_id="p"),
        said("execution_cached", nodes=[], prompt_id="p"),
        said("executing", node="1", prompt_id="p"),
        said("executing", node="2", prompt_id="p"),
        said("executed", node="2", output={"images": []}, prompt_id="p"),
        said("execution_success", prompt_id="p"),
        said("executing", node=None, prompt_id="p"),
    ]
    made = told(reading, run)
    assert [(event.kind, event.data.get("node", {}).get("id")) for event in made[2:]] == [
        ("NodeStarted", "1"),
        ("NodeFinished", "1"),
        ("NodeStarted", "2"),
        ("NodeOutput", "2"),
        ("NodeFinished", "2"),
    ]


def test_a_socket_that_joins_is_told_the_node_and_that_is_a_move_only_when_it_is_another() -> None:
    reading = Reading("p")
    greeting = said("executing", node="2")
    assert kinds(told(reading, [greeting])) == ["NodeStarted"]
    assert reading.started
    before = reading.moves
    assert not told(reading, [greeting])
    assert reading.moves == before
    assert not told(reading, [said("executing", node=None)])
    assert not reading.over


def test_how_a_run_began_is_caught_up_with_from_its_history() -> None:
    transcript = recording("01")
    prompt_id = histories(transcript)[0]
    messages = history(transcript, prompt_id)["status"]["messages"]
    reading = Reading(prompt_id)
    told(reading, [said("executing", node="2")])
    assert kinds(list(reading.catch_up(messages))) == ["RunStarted", "NodesCached"]
    assert not list(reading.catch_up(messages))
    assert kinds(list(reading.finish())) == ["NodeFinished"]


@pytest.mark.parametrize(
    "data",
    [
        {"nodes": None},
        {"nodes": {"1": None, "2": {"state": "finished"}}},
        {"nodes": [1, 2]},
        {"node": {"a": 1}, "output": {"x": 1}},
        {"node": 5, "value": "x", "max": None},
        {"node": None, "value": 1, "max": 2},
        {"node": [], "display_node": 3, "output": []},
        {"timestamp": "<ms since epoch>", "nodes": ["1", 2, None]},
        {"exception_type": ["ExecutionBlocked"]},
    ],
)
def test_nonsense_changes_nothing_and_raises_nothing(data: dict[str, Any]) -> None:
    for name in (
        *ENDS,
        "execution_start",
        "execution_cached",
        "progress_state",
        "executing",
        "progress",
        "executed",
        "x",
    ):
        reading = Reading("p", watched=True)
        told(reading, [said(name, **data), said(name, prompt_id="p", **data), said(name, prompt_id=[], **data)])


def test_events_of_other_prompts_are_not_ours() -> None:
    reading = Reading("p")
    for name in (*ENDS, "execution_start", "executing", "progress", "executed", "progress_state", "anything"):
        assert not told(reading, [said(name, prompt_id="q", node=None, nodes={"1": {"state": "finished"}})])
    assert not reading.started
    assert not reading.over
    assert not reading.moves
