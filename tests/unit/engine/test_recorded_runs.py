"""Runs of the recorded prompts tell what ComfyUI told, event by event, and leave the same in history."""

from __future__ import annotations

from typing import Any

import pytest

from limner.engine.events import RunFailed, StepDone
from limner.graph.validate import validate
from tests.support.frames import frames
from tests.support.recordings import comparable, history, prompts, recording, run_events
from tests.unit.engine.runs import CATALOGUE, Bench


def replay(bench: Bench, name: str, **options: Any) -> None:
    """Runs the prompts of a transcript one after the other, and compares each run's events and its history entry."""
    transcript = recording(name)
    for body in prompts(transcript):
        prompt_id = body["prompt_id"]
        found = validate(body["prompt"], CATALOGUE, targets=body.get("partial_execution_targets"))
        result = bench.run(found.workflow, found.outputs, **options)
        expected = run_events(transcript, prompt_id)
        assert comparable(frames(bench.events, prompt_id)) == expected
        if any(each["request"]["path"] == f"/history/{prompt_id}" for each in transcript["exchanges"]):
            entry = history(transcript, prompt_id)
            assert comparable(result.outputs) == comparable(entry["outputs"])
            assert result.meta == entry["meta"]
            assert sorted(found.outputs) == sorted(entry["prompt"][4])


@pytest.mark.parametrize("name", ["05", "20", "55", "57", "58", "60"])
def test_a_run_tells_what_was_recorded(name: str) -> None:
    replay(Bench(), name)


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
