"""Which lane comes first, by a clock of the test's own."""

from __future__ import annotations

import pytest

from limner.jobs.model import LANE_ANY
from limner.worker.warm import GRACE_SECONDS, JITTER_SECONDS, PAST_OTHERS_SECONDS, WarmLane


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def warmed(chance: float = 0.0) -> tuple[WarmLane, Clock]:
    clock = Clock()
    warm = WarmLane(clock=clock, chance=lambda: chance)
    warm.took("a")
    return warm, clock


def test_a_cold_worker_reaches_for_every_job_at_once() -> None:
    warm = WarmLane(clock=Clock())
    assert warm.lanes == (LANE_ANY,)
    assert warm.grace_seconds("a") == 0.0


def test_jobs_without_models_do_not_pass_others_for_ever_either() -> None:
    clock = Clock()
    warm = WarmLane(clock=clock)
    warm.took(LANE_ANY)
    clock.now += PAST_OTHERS_SECONDS
    assert warm.lanes == ()
    warm.took(LANE_ANY)
    assert warm.lanes == (LANE_ANY,)


def test_while_no_job_waits_none_is_passed() -> None:
    warm, clock = warmed()
    clock.now += PAST_OTHERS_SECONDS
    warm.found_none()
    assert warm.lanes == ("a",)


def test_the_lane_of_the_last_job_comes_first() -> None:
    warm, _ = warmed()
    assert warm.lanes == ("a",)
    warm.took("b")
    assert warm.lanes == ("b",)


def test_jobs_that_wait_in_other_lanes_have_their_turn() -> None:
    warm, clock = warmed()
    for _ in range(6):
        clock.now += PAST_OTHERS_SECONDS / 6
        assert warm.lanes == (("a",) if clock.now < 1000 + PAST_OTHERS_SECONDS else ())
        if warm.lanes:
            warm.took("a")
    warm.took("a")  # nobody else waited
    assert warm.lanes == ("a",)
    clock.now += PAST_OTHERS_SECONDS
    warm.took("b")
    assert warm.lanes == ("b",)


def test_a_job_without_models_leaves_the_lane_warm() -> None:
    warm, _ = warmed()
    warm.took(LANE_ANY)
    assert warm.lanes == ("a",)


def test_an_engine_without_models_is_warm_for_nothing() -> None:
    warm, _ = warmed()
    warm.cool()
    assert (warm.lanes, warm.grace_seconds("b")) == ((LANE_ANY,), 0.0)


@pytest.mark.parametrize("woken", [None, "", "a", LANE_ANY])
def test_no_time_is_lost_on_a_wake_that_nobody_is_warmer_for(woken: str | None) -> None:
    warm, _ = warmed()
    assert warm.grace_seconds(woken) == 0.0


@pytest.mark.parametrize("chance", [0.0, 1.0])
def test_a_job_of_another_lane_is_left_a_moment_to_who_is_warm_for_it(chance: float) -> None:
    warm, _ = warmed(chance)
    assert warm.grace_seconds("b") == pytest.approx(GRACE_SECONDS + chance * JITTER_SECONDS)
