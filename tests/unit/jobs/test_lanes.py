"""Which way a job goes to the workers."""

from __future__ import annotations

import re

from limner.jobs.lanes import UNUSED_SECONDS, Lanes, lane_of


def test_a_lane_is_named_by_the_base_weights_whatever_their_order() -> None:
    lane = lane_of(["b.safetensors", "a.safetensors"])
    assert re.fullmatch(r"[0-9a-f]{16}", lane)
    assert lane == lane_of(("a.safetensors", "b.safetensors", "a.safetensors"))
    assert lane not in {lane_of(["a.safetensors"]), lane_of(["ab", ".safetensors"]), lane_of(['a","b'])}


def test_a_job_without_base_weights_goes_to_any_worker() -> None:
    assert lane_of([]) == "any"
    assert Lanes().choose([], workers=9, now=0.0) == "any"


def test_with_a_single_worker_there_is_one_lane_and_so_one_order() -> None:
    lanes = Lanes()
    assert [lanes.choose(["a"], workers=n, now=0.0) for n in (0, 1, 2)] == ["any", "any", lane_of(["a"])]


def test_past_the_most_lanes_new_ones_are_not_opened_until_old_ones_are_unused() -> None:
    lanes = Lanes(most=2)
    a, b, c = (lane_of([name]) for name in "abc")
    assert [lanes.choose(name, workers=2, now=0.0) for name in "abca"] == [a, b, "any", a]
    later = UNUSED_SECONDS / 2
    assert lanes.choose("a", workers=2, now=later) == a
    assert lanes.choose("c", workers=2, now=UNUSED_SECONDS) == c, "b was not used for that long"
    assert lanes.choose("b", workers=2, now=UNUSED_SECONDS) == "any"
    assert lanes.choose("b", workers=2, now=later + UNUSED_SECONDS) == b
