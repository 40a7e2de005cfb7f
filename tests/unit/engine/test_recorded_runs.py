"""Runs of the recorded prompts tell what ComfyUI told, event by event, and leave the same in history."""

from __future__ import annotations

from typing import Any

import pytest

from limner.engine.cache import OutputCache
from limner.engine.events import NodeRef, PackEvent, RunFailed, StepDone, TextShown
from limner.engine.policy import CachePolicy
from limner.graph.validate import validate
from tests.support import anchor_nodes
from tests.support.frames import frames
from tests.support.recordings import comparable, history, prompts, recording, run_events
from tests.unit.engine.runs import CATALOGUE, Bench


def replay(bench: Bench, name: str, **options: Any) -> None:
    """Runs the prompts of a transcript one after the other, and compares each run's events and its history entry."""
    transcript = recording(name)
    for body in prompts(transcript):
        prompt_id = body["prompt_id"]
        found = validate(body["prompt"], CATALOGUE, targets=body.get("partial_execution_targets"))
        extra = body.get("extra_data", {}).get("extra_pnginfo")
        result = bench.run(found.workflow, found.outputs, extra_pnginfo=extra, **options)
        expected = run_events(transcript, prompt_id)
        assert comparable(frames(bench.events, prompt_id)) == expected
        if any(each["request"]["path"] == f"/history/{prompt_id}" for each in transcript["exchanges"]):
            entry = history(transcript, prompt_id)
            assert comparable(result.outputs) == comparable(entry["outputs"])
            assert result.meta == entry["meta"]
            assert sorted(found.outputs) == sorted(entry["prompt"][4])


@pytest.fixture(autouse=True)
def _calls_of_the_pack() -> None:
    """The recording server's pack had been asked this before."""
    anchor_nodes.CALLS[:] = [("validate", {"a": "IMAGE"}, {"a": None, "n": 1})]


@pytest.mark.parametrize("name", ["05", "20", "50", "51", "52", "53", "54", "55", "56", "57", "58", "60"])
def test_a_run_tells_what_was_recorded(name: str) -> None:
    replay(Bench(), name)


@pytest.mark.parametrize(("name", "policy"), [("62", "none"), ("63", "lru=10")])
def test_what_is_kept_between_runs_is_what_was_recorded(name: str, policy: str) -> None:
    bench = Bench(cache=OutputCache(policy=CachePolicy.parse(policy)))
    bench.files.counters["anchor"] = 10
    replay(bench, name)


def test_the_same_prompt_again_and_with_another_prefix() -> None:
    bench = Bench()
    for name in ("01", "02", "03"):
        replay(bench, name)


def test_only_the_sound_output_runs() -> None:
    bench = Bench()
    bench.files.counters["anchor"] = 6
    replay(bench, "11")


def test_an_interrupt_is_heard_at_the_next_step() -> None:
    bench = Bench()
    replay(bench, "21", interrupted=lambda: sum(isinstance(event, StepDone) for event in bench.events) == 9)


def test_a_number_for_a_picture_fails_when_the_node_runs() -> None:
    transcript = recording("13")
    entry = history(transcript, "p1")
    bench = Bench()
    result = bench.run(entry["prompt"][2], ("2",))
    [failure] = [each for each in frames(bench.events, "p1") if each["type"] == "execution_error"]
    assert isinstance(result.end, RunFailed)
    assert comparable(failure["data"]) == comparable(entry["status"]["messages"][2][1])


def test_a_packs_own_events_go_to_the_client_or_to_everyone() -> None:
    bench = Bench()
    [body] = prompts(recording("43"))
    bench.run(body["prompt"], ("2",))
    told = [event for event in bench.events if isinstance(event, PackEvent | TextShown)]
    assert told == [
        TextShown(node=NodeRef.plain("1"), text="h\u00e9llo"),
        PackEvent(name="anchor.custom", data={"v": 1}),
        PackEvent(name="anchor.broadcast", data={"v": 1}, everyone=True),
    ]
