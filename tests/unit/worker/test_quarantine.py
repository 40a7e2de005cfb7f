"""When a worker stands aside, by a clock of the test's own."""

from __future__ import annotations

from typing import Any

import pytest

from limner.bus.messages import Done
from limner.worker.quarantine import FIRST_SECONDS, FIRST_SECONDS_ELSE, JOBS, LONGEST_SECONDS, SICK, Quarantine


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def ended(job: str, outcome: str = "failed", code: str = "worker_lost") -> Done:
    error: dict[str, Any] | None = {"code": code} if outcome == "failed" else None
    return Done(id=job, token="t", outcome=outcome, error=error)


def in_quarantine() -> tuple[Quarantine, Clock]:
    clock = Clock()
    quarantine = Quarantine(clock)
    for number in range(JOBS):
        quarantine.heard(ended(f"job {number}"))
    return quarantine, clock


@pytest.mark.parametrize("code", sorted(SICK))
def test_several_different_jobs_that_fail_in_a_row_begin_a_quarantine(code: str) -> None:
    clock = Clock()
    quarantine = Quarantine(clock)
    lengths = [quarantine.heard(ended(f"job {number}", code=code)) for number in range(JOBS)]
    first = FIRST_SECONDS.get(code, FIRST_SECONDS_ELSE)
    assert lengths == [0.0] * (JOBS - 1) + [first]
    assert quarantine.seconds_left == first
    clock.now += first
    assert quarantine.seconds_left == 0.0


def test_jobs_that_no_worker_could_do_say_nothing_about_this_one() -> None:
    quarantine = Quarantine(Clock())
    too_large = {"code": "out_of_memory", "retryable": False}
    ends = [Done(id=f"job {number}", token="t", outcome="failed", error=too_large) for number in range(JOBS)]
    assert [quarantine.heard(done) for done in ends] == [0.0] * JOBS


def test_jobs_behind_some_that_ask_for_too_much_memory_wait_for_less_than_behind_lost_engines() -> None:
    assert FIRST_SECONDS["out_of_memory"] < FIRST_SECONDS_ELSE / 10


def test_one_job_that_fails_again_and_again_says_nothing_about_the_worker() -> None:
    quarantine = Quarantine(Clock())
    assert [quarantine.heard(ended("job")) for _ in range(10)] == [0.0] * 10


def test_a_success_in_between_ends_the_suspicion() -> None:
    quarantine = Quarantine(Clock())
    for number in range(10):
        assert quarantine.heard(ended(f"job {number}")) == 0.0
        assert quarantine.heard(ended("good", "succeeded")) == 0.0


def test_a_nodes_own_fault_an_interrupt_and_an_unfit_job_say_nothing_either_way() -> None:
    quarantine = Quarantine(Clock())
    for number in range(JOBS - 1):
        quarantine.heard(ended(f"job {number}"))
    for other in (
        ended("a", code="run_failed"),
        ended("b", "interrupted"),
        ended("c", "returned"),
        ended("d", "unfit"),
    ):
        assert quarantine.heard(other) == 0.0
    assert quarantine.heard(ended("last")) == FIRST_SECONDS_ELSE


def test_after_a_quarantine_one_job_is_on_trial_and_each_further_one_lasts_twice_as_long() -> None:
    quarantine, clock = in_quarantine()
    lengths = []
    for number in range(6):
        clock.now += quarantine.seconds_left
        lengths.append(quarantine.heard(ended(f"trial {number}")))
    assert lengths == [120.0, 240.0, 480.0, LONGEST_SECONDS, LONGEST_SECONDS, LONGEST_SECONDS]


def test_a_success_on_trial_clears_everything() -> None:
    quarantine, clock = in_quarantine()
    clock.now += FIRST_SECONDS_ELSE
    quarantine.heard(ended("trial", "succeeded"))
    assert [quarantine.heard(ended(f"job {number}")) for number in range(JOBS)] == [0.0, 0.0, FIRST_SECONDS_ELSE]
