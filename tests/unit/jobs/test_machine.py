"""Every crash of dispatch's table, as a decision."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limner.jobs.events import (
    Accepted,
    AttemptEnded,
    CancelAsked,
    ClaimAsked,
    Ended,
    Event,
    Granted,
    InterruptWorker,
    NobodyCame,
    PurgeToken,
    Refused,
    Reported,
    RunAfter,
    TokenMissing,
)
from limner.jobs.machine import MAX_ATTEMPTS, MAX_RESUMES, Decision, backoff_seconds, decide
from limner.jobs.model import Job, State

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def job(**changes: Any) -> Job:
    fields: dict[str, Any] = {
        "id": "j",
        "tenant": "default",
        "pool": "default",
        "lane": "any",
        "prompt_id": "p",
        "client_id": None,
        "number": 0.0,
        "number_given": False,
        "priority": 0,
        "workflow": {},
        "outputs": (),
        "extra_data": {},
        "inputs": (),
        "state": State.RELEASED,
        "epoch": 0,
        "attempts": 0,
        "token": None,
        "worker": None,
        "created_at": NOW,
        "started_at": None,
        "ended_at": None,
        "result": None,
    }
    return Job(**(fields | changes))


def running(**changes: Any) -> Job:
    fields = {"state": State.RUNNING, "attempts": 1, "token": "t1", "worker": "w1", "delivery": "d1", "started_at": NOW}
    return job(**(fields | changes))


def claim(epoch: int = 0, worker: str = "w1", delivery: str = "d1", token: str = "t-new", **more: Any) -> ClaimAsked:
    return ClaimAsked(epoch=epoch, worker=worker, delivery=delivery, new_token=token, now=NOW, **more)


def report(outcome: str, token: str = "t1", **more: Any) -> Reported:
    return Reported(token=token, outcome=outcome, now=NOW, **more)


def failure(*, retryable: bool, code: str = "node_error") -> Reported:
    return report("failed", error={"code": code, "retryable": retryable, "exception_message": "boom"})


def effects(decision: Decision, kind: type) -> list[Any]:
    return [effect for effect in decision.effects if isinstance(effect, kind)]


def only(decision: Decision, kind: type) -> Any:
    (effect,) = effects(decision, kind)
    return effect


def test_a_claim_of_a_released_job_begins_an_attempt() -> None:
    decision = decide(job(), claim())
    assert decision.answer == Granted()
    assert (decision.job.state, decision.job.attempts, decision.job.token) == (State.RUNNING, 1, "t-new")
    assert (decision.job.worker, decision.job.delivery, decision.job.started_at) == ("w1", "d1", NOW)


def test_a_repeated_claim_of_the_same_delivery_gets_the_same_token_and_counts_no_attempt() -> None:
    first = decide(job(), claim(token="t1"))
    again = decide(first.job, claim(token="t2"))
    assert again.answer == Granted(repeat=True)
    assert again.job is first.job
    assert again.job.token == "t1"


@pytest.mark.parametrize("epoch", [0, 2, 99])
def test_a_claim_with_another_epoch_is_refused(epoch: int) -> None:
    decision = decide(job(epoch=1), claim(epoch=epoch))
    assert isinstance(decision.answer, Refused)
    assert decision.job.state is State.RELEASED


@pytest.mark.parametrize("state", [State.SUCCEEDED, State.FAILED, State.CANCELED, State.EXPIRED])
def test_a_claim_of_an_ended_job_is_refused(state: State) -> None:
    """The worker died after done and before its ack: the token comes again, and is dropped."""
    before = job(state=state, ended_at=NOW)
    decision = decide(before, claim())
    assert isinstance(decision.answer, Refused)
    assert decision.job is before


def test_a_recalled_job_is_not_claimed_with_its_old_token() -> None:
    assert isinstance(decide(job(state=State.QUEUED, epoch=1), claim(epoch=0)).answer, Refused)


def test_a_queued_job_is_not_claimed_before_its_turn() -> None:
    assert isinstance(decide(job(state=State.QUEUED), claim()).answer, Refused)


def test_the_first_loss_of_a_worker_is_redelivered_at_once() -> None:
    decision = decide(running(), claim(worker="w2", delivery="d2", token="t2"))
    assert decision.answer == Granted()
    assert only(decision, AttemptEnded).outcome == "lost"
    assert (decision.job.attempts, decision.job.token, decision.job.losses) == (2, "t2", 1)


def test_the_same_worker_with_another_delivery_is_a_loss_too() -> None:
    """It was restarted under the same name."""
    decision = decide(running(), claim(worker="w1", delivery="d2", token="t2"))
    assert (decision.answer, decision.job.token, decision.job.losses) == (Granted(), "t2", 1)


def test_the_second_loss_waits() -> None:
    decision = decide(running(attempts=2, losses=1), claim(worker="w3", delivery="d3"))
    assert isinstance(decision.answer, Refused)
    assert only(decision, RunAfter).seconds == 5.0
    assert (decision.job.state, decision.job.epoch, decision.job.token) == (State.QUEUED, 1, "t1")


def test_a_job_that_kills_its_workers_fails_once_its_attempts_are_used_up() -> None:
    decision = decide(running(attempts=MAX_ATTEMPTS, losses=1), claim(worker="w3", delivery="d3"))
    assert isinstance(decision.answer, Refused)
    assert decision.job.state is State.FAILED
    assert decision.job.error is not None
    assert decision.job.error["code"] == "worker_lost"
    assert decision.job.messages[0][0] == "execution_error"
    assert effects(decision, Ended)


def test_a_job_that_came_back_to_the_queue_with_all_attempts_used_fails_at_the_next_claim() -> None:
    decision = decide(job(attempts=MAX_ATTEMPTS), claim())
    assert decision.job.state is State.FAILED


def test_success_ends_the_job_with_all_that_was_reported() -> None:
    told = report(
        "succeeded", result={"outputs": {"9": {}}, "meta": {}}, messages=(("execution_start", {}),), models=("m",)
    )
    decision = decide(running(), told)
    assert decision.answer == Accepted()
    assert (decision.job.state, decision.job.ended_at, decision.job.models) == (State.SUCCEEDED, NOW, ("m",))
    assert decision.job.result == {"outputs": {"9": {}}, "meta": {}}
    assert only(decision, Ended) == Ended()
    assert not effects(decision, PurgeToken)


def test_a_report_whose_answer_was_lost_is_accepted_again_without_effect() -> None:
    ended = decide(running(), report("succeeded")).job
    again = decide(ended, report("succeeded"))
    assert again.answer == Accepted(repeat=True)
    assert again.job is ended
    assert not effects(again, Ended)


@pytest.mark.parametrize("outcome", ["succeeded", "failed", "interrupted", "returned"])
@pytest.mark.parametrize("state", [State.SUCCEEDED, State.FAILED, State.CANCELED])
def test_a_report_that_contradicts_the_recorded_end_is_refused(outcome: str, state: State) -> None:
    """Such as a success after the job was canceled while it had been put back: its worker must not keep the files."""
    ended = running(state=state, ended_at=NOW)
    decision = decide(ended, report(outcome))
    same = {"succeeded": State.SUCCEEDED, "failed": State.FAILED}.get(outcome, State.CANCELED) is state
    assert decision.answer == (Accepted(repeat=True) if same else Refused(reason=f"the job is {state}"))
    assert decision.job is ended


@pytest.mark.parametrize(
    ("before", "epoch"),
    [
        (running(), 0),
        (running(attempts=MAX_ATTEMPTS, losses=1), 0),
        (running(state=State.RELEASED, epoch=1), 1),
        (running(state=State.RELEASED, epoch=1, attempts=MAX_ATTEMPTS), 1),
    ],
    ids=["first loss", "last loss", "put back", "put back for the last time"],
)
def test_a_worker_that_lost_its_job_is_told_to_stop(before: Job, epoch: int) -> None:
    """It may only have been cut off for a while, and would work on for nothing."""
    decision = decide(before, claim(epoch=epoch, worker="w2", delivery="d2", token="t2"))
    assert only(decision, InterruptWorker) == InterruptWorker(worker="w1", token="t1")
    same = decide(before, claim(epoch=epoch, worker="w1", delivery="d2", token="t2"))
    assert not effects(same, InterruptWorker)


def test_a_worker_that_may_still_finish_its_job_is_left_alone() -> None:
    """Its report of an interrupt would end the job, which only waits."""
    assert not effects(decide(running(attempts=2, losses=1), claim(worker="w3", delivery="d3")), InterruptWorker)


def test_a_late_report_of_a_lost_lease_is_refused_once_somebody_else_has_claimed() -> None:
    taken_over = decide(running(), claim(worker="w2", delivery="d2", token="t2")).job
    late = decide(taken_over, report("succeeded", token="t1"))
    assert isinstance(late.answer, Refused)
    assert late.job is taken_over


@pytest.mark.parametrize("released_again", [False, True])
def test_a_late_report_is_accepted_while_nobody_else_has_claimed(released_again: bool) -> None:
    """The sweep put the job back although its worker lived; the work is not thrown away."""
    back = decide(running(), TokenMissing(now=NOW)).job
    back = replace(back, state=State.RELEASED) if released_again else back
    decision = decide(back, report("succeeded"))
    assert decision.answer == Accepted()
    assert decision.job.state is State.SUCCEEDED
    assert bool(effects(decision, PurgeToken)) is released_again


def test_a_nodes_exception_fails_the_job_at_once() -> None:
    decision = decide(running(), failure(retryable=False))
    assert (decision.job.state, decision.job.attempts) == (State.FAILED, 1)
    assert decision.job.error is not None
    assert decision.job.error["exception_message"] == "boom"


def test_retryable_failures_back_off_and_then_fail_for_good() -> None:
    waits: list[float] = []
    current = job()
    for number in range(1, MAX_ATTEMPTS + 1):
        current = decide(
            replace(current, state=State.RELEASED), claim(epoch=current.epoch, delivery=f"d{number}", token="t1")
        ).job
        decision = decide(current, failure(retryable=True, code="upload_failed"))
        current = decision.job
        waits += [effect.seconds for effect in effects(decision, RunAfter)]
    assert waits == [5.0, 10.0]
    assert (current.state, current.attempts) == (State.FAILED, MAX_ATTEMPTS)


def test_a_lost_engine_that_its_worker_reports_counts_as_a_lost_worker() -> None:
    lost = failure(retryable=True, code="worker_lost")
    first = decide(running(), lost)
    assert (first.job.state, first.job.losses, only(first, RunAfter).seconds) == (State.QUEUED, 1, 0.0)
    second = decide(running(attempts=2, losses=1), lost)
    assert (second.job.losses, only(second, RunAfter).seconds) == (2, 5.0)
    assert decide(running(attempts=MAX_ATTEMPTS, losses=2), lost).job.state is State.FAILED


def test_a_reported_failure_gives_the_lease_up() -> None:
    decision = decide(running(), failure(retryable=True))
    assert (decision.job.state, decision.job.epoch, decision.job.token) == (State.QUEUED, 1, None)
    assert isinstance(decide(decision.job, failure(retryable=True)).answer, Refused)


def test_out_of_memory_is_tried_once_more_only() -> None:
    assert decide(running(attempts=1), failure(retryable=True, code="out_of_memory")).job.state is State.QUEUED
    assert decide(running(attempts=2), failure(retryable=True, code="out_of_memory")).job.state is State.FAILED


def test_a_returned_job_waits_again_and_counts_no_attempt() -> None:
    decision = decide(running(attempts=3), report("returned"))
    assert decision.answer == Accepted()
    assert (decision.job.state, decision.job.attempts, decision.job.epoch) == (State.QUEUED, 2, 1)
    assert only(decision, RunAfter).seconds == 0.0


def test_a_job_returned_after_the_sweep_put_it_back_keeps_its_new_place() -> None:
    back = decide(running(), TokenMissing(now=NOW)).job
    decision = decide(replace(back, state=State.RELEASED), report("returned"))
    assert (decision.job.state, decision.job.epoch, decision.job.token, decision.job.attempts) == (
        State.RELEASED,
        1,
        None,
        0,
    )


def test_an_unknown_outcome_is_refused() -> None:
    assert isinstance(decide(running(), report("exploded")).answer, Refused)


def test_a_report_without_any_lease_is_refused() -> None:
    assert isinstance(decide(job(), report("succeeded", token="")).answer, Refused)


@pytest.mark.parametrize("state", [State.QUEUED, State.RELEASED])
def test_cancel_of_a_waiting_job_is_at_once_and_leaves_no_trace(state: State) -> None:
    decision = decide(job(state=state), CancelAsked(now=NOW))
    assert (decision.job.state, decision.job.epoch) == (State.CANCELED, 1)
    assert only(decision, Ended) == Ended(hidden=True)
    assert bool(effects(decision, PurgeToken)) is (state is State.RELEASED)


def test_cancel_of_a_running_job_asks_its_worker() -> None:
    decision = decide(running(), CancelAsked(now=NOW))
    assert decision.job.state is State.CANCELING
    assert only(decision, InterruptWorker) == InterruptWorker(worker="w1", token="t1")
    again = decide(decision.job, CancelAsked(now=NOW))
    assert again.job is decision.job
    assert effects(again, InterruptWorker)


def test_cancel_of_an_ended_job_does_nothing() -> None:
    ended = job(state=State.SUCCEEDED, ended_at=NOW)
    assert decide(ended, CancelAsked(now=NOW)) == Decision(job=ended, effects=())


@pytest.mark.parametrize(
    ("told", "state"),
    [
        (report("interrupted"), State.CANCELED),
        (report("succeeded"), State.SUCCEEDED),
        (report("returned"), State.CANCELED),
        (failure(retryable=True), State.CANCELED),
        (failure(retryable=False), State.FAILED),
    ],
)
def test_a_canceling_job_ends_with_its_workers_report(told: Reported, state: State) -> None:
    decision = decide(running(state=State.CANCELING), told)
    assert decision.job.state is state
    assert only(decision, Ended) == Ended()


def test_a_canceling_job_whose_worker_is_lost_is_canceled() -> None:
    decision = decide(running(state=State.CANCELING), claim(worker="w2", delivery="d2"))
    assert isinstance(decision.answer, Refused)
    assert decision.job.state is State.CANCELED
    assert decide(running(state=State.CANCELING), TokenMissing(now=NOW)).job.state is State.CANCELED


@pytest.mark.parametrize("before", [job(), running()])
def test_a_job_without_its_token_goes_back_to_the_queue(before: Job) -> None:
    decision = decide(before, TokenMissing(now=NOW))
    assert (decision.job.state, decision.job.epoch, decision.job.token) == (State.QUEUED, 1, before.token)
    assert isinstance(decide(decision.job, claim(epoch=0)).answer, Refused)


def test_the_attempt_of_a_job_that_was_put_back_is_closed_by_the_next_claim() -> None:
    back = decide(running(), TokenMissing(now=NOW)).job
    assert not effects(decide(running(), TokenMissing(now=NOW)), AttemptEnded)
    decision = decide(replace(back, state=State.RELEASED), claim(epoch=1, worker="w2", token="t2"))
    assert only(decision, AttemptEnded).outcome == "lost"
    assert (decision.job.token, decision.job.attempts) == ("t2", 2)


def test_a_missing_token_of_a_waiting_or_ended_job_is_no_loss() -> None:
    for state in (State.QUEUED, State.SUCCEEDED):
        before = job(state=state)
        assert decide(before, TokenMissing(now=NOW)).job is before


def test_backoff_grows_from_five_seconds_to_five_minutes() -> None:
    assert [backoff_seconds(n) for n in (1, 2, 3, 7, 50)] == [5.0, 10.0, 20.0, 300.0, 300.0]
    assert backoff_seconds(1, jitter=1.0) == pytest.approx(6.0)


def resume(**changes: Any) -> ClaimAsked:
    return claim(**({"resumed": True} | changes))


def test_a_worker_that_was_started_again_goes_on_with_what_it_was_granted() -> None:
    before = running()
    decision = decide(before, resume())
    assert decision.answer == Granted(repeat=True)
    assert decision.job == replace(before, losses=1), "no attempt more, the same token, and the loss counted"


def test_a_job_that_kills_its_supervisor_again_and_again_is_not_resumed_for_ever() -> None:
    once = running()
    resumed = 0
    while isinstance((decision := decide(once, resume())).answer, Granted):
        once, resumed = decision.job, resumed + 1
    assert resumed == MAX_RESUMES
    assert decision.job is once, "the lease runs out, and the loss of its worker is counted as an attempt"


@pytest.mark.parametrize("changes", [{"worker": "w2"}, {"delivery": "d2"}, {"epoch": 1}])
def test_a_job_that_went_on_without_its_worker_is_not_resumed(changes: dict[str, Any]) -> None:
    """Delivered again to another, or put back and waiting: nothing changes, and nobody counts as lost."""
    before = running()
    decision = decide(before, resume(**changes))
    assert isinstance(decision.answer, Refused)
    assert decision.job is before


@pytest.mark.parametrize("state", [State.QUEUED, State.RELEASED])
def test_a_job_that_was_put_back_is_not_resumed(state: State) -> None:
    """Its worker and delivery are still written down, and its epoch may not have risen."""
    before = running(state=state)
    decision = decide(before, resume())
    assert isinstance(decision.answer, Refused)
    assert decision.job is before


@pytest.mark.parametrize("state", [State.SUCCEEDED, State.FAILED, State.CANCELED])
def test_an_ended_job_is_not_resumed(state: State) -> None:
    assert isinstance(decide(running(state=state, ended_at=NOW), resume()).answer, Refused)


def test_a_job_that_was_canceled_meanwhile_is_resumed_to_be_stopped() -> None:
    """A run that outlived its supervisor has to be interrupted by somebody."""
    before = running(state=State.CANCELING)
    decision = decide(before, resume())
    assert decision.answer == Granted(repeat=True)
    assert only(decision, InterruptWorker) == InterruptWorker(worker="w1", token="t1")
    assert decision.job is before


def test_a_job_without_a_token_is_not_resumed() -> None:
    assert isinstance(decide(job(worker="w1", delivery="d1"), resume()).answer, Refused)


UNFIT_ERROR = {"code": "unfit_worker", "retryable": False, "exception_message": "no such node"}


def unfit(catalogue: str = "a", workers: dict[str, str] | None = None) -> Reported:
    return report("unfit", error=UNFIT_ERROR, catalogue=catalogue, workers=workers or {})


def test_a_job_that_its_worker_cannot_run_waits_for_another_one_at_once() -> None:
    decision = decide(running(), unfit(workers={"w1": "a", "w2": "b"}))
    assert decision.answer == Accepted()
    assert (decision.job.state, decision.job.attempts, decision.job.epoch) == (State.QUEUED, 0, 1)
    assert (decision.job.token, decision.job.worker, decision.job.avoid) == (None, None, {"w1": "a"})
    assert only(decision, RunAfter).seconds == 0
    assert only(decision, AttemptEnded).outcome == "unfit"


@pytest.mark.parametrize(
    "workers", [{}, {"w1": "a"}, {"w1": "a", "w2": "a"}, {"w1": "a", "w3": "c"}, {"w1": "a", "w4": "c"}]
)
def test_a_job_that_no_other_worker_could_run_has_failed(workers: dict[str, str]) -> None:
    """w2 has the same nodes as w1, w3 was tried before, w4 has the same nodes as w3."""
    decision = decide(running(avoid={"w3": "c"}), unfit(workers=workers))
    assert decision.answer == Accepted()
    assert (decision.job.state, decision.job.error) == (State.FAILED, UNFIT_ERROR)
    assert only(decision, Ended) == Ended()


def test_a_worker_that_starts_may_turn_out_to_have_what_is_missing() -> None:
    assert decide(running(), unfit(workers={"w2": ""})).job.state is State.QUEUED


def test_a_worker_that_got_another_catalogue_may_be_tried_again() -> None:
    assert decide(running(avoid={"w2": "b"}), unfit(workers={"w2": "b2"})).job.state is State.QUEUED


def test_a_report_of_an_unfit_worker_told_twice_is_one_end() -> None:
    first = decide(running(), unfit())
    assert decide(first.job, unfit()).answer == Accepted(repeat=True)


def test_an_unfit_workers_job_that_was_canceled_is_canceled() -> None:
    decision = decide(running(state=State.CANCELING), unfit(workers={"w2": "b"}))
    assert (decision.job.state, decision.job.error) == (State.CANCELED, None)


def test_a_job_that_was_put_back_before_its_worker_turned_out_unfit_keeps_its_place() -> None:
    """The sweep was faster."""
    before = running(state=State.QUEUED, epoch=1)
    decision = decide(before, unfit(workers={"w2": "b"}))
    assert (decision.job.state, decision.job.epoch, decision.job.avoid) == (State.QUEUED, 1, {"w1": "a"})
    assert effects(decision, RunAfter) == []


def test_a_worker_does_not_get_a_job_again_that_it_could_not_run() -> None:
    before = job(avoid={"w1": "a"})
    decision = decide(before, claim(catalogue="a"))
    assert isinstance(decision.answer, Refused)
    assert decision.answer.elsewhere
    assert decision.job is before
    assert decide(before, claim(worker="w2", catalogue="a")).answer == Granted()


def test_a_worker_with_a_new_catalogue_gets_the_job_again() -> None:
    assert decide(job(avoid={"w1": "a"}), claim(catalogue="a2")).answer == Granted()


def test_a_job_that_every_live_worker_refuses_fails_in_the_end() -> None:
    before = job(avoid={"w1": "a", "w2": "b"})
    decision = decide(before, NobodyCame(now=NOW, workers={"w1": "a", "w3": "b"}))
    assert decision.job.state is State.FAILED
    assert decision.job.error is not None
    assert decision.job.error["code"] == "unfit_worker"
    assert decision.job.messages[0][0] == "execution_error"
    assert effects(decision, PurgeToken)
    assert only(decision, Ended) == Ended()


@pytest.mark.parametrize(
    ("before", "workers"),
    [
        (job(), {}),
        (job(avoid={"w1": "a"}), {"w2": "b"}),
        (job(avoid={"w1": "a"}), {"w2": ""}),
        (job(avoid={"w1": ""}), {"w1": "b"}),
        (running(avoid={"w1": "a"}), {}),
    ],
)
def test_a_job_that_a_worker_may_still_run_waits_on(before: Job, workers: dict[str, str]) -> None:
    decision = decide(before, NobodyCame(now=NOW, workers=workers))
    assert decision.job is before


TOKENS = st.sampled_from(["t1", "t2", "t3"])
EVENTS: st.SearchStrategy[Event] = st.one_of(
    st.builds(
        claim,
        epoch=st.integers(0, 4),
        worker=st.sampled_from(["w1", "w2"]),
        delivery=st.sampled_from(["d1", "d2"]),
        token=TOKENS,
    ),
    st.builds(report, st.sampled_from(["succeeded", "interrupted", "returned", "failed"]), token=TOKENS),
    st.builds(
        lambda token, others, catalogue: replace(
            unfit(catalogue, {"w1": "a", "w2": "b"} if others else {}), token=token
        ),
        TOKENS,
        st.booleans(),
        st.sampled_from(["a", "b"]),
    ),
    st.builds(
        resume, epoch=st.integers(0, 4), worker=st.sampled_from(["w1", "w2"]), delivery=st.sampled_from(["d1", "d2"])
    ),
    st.just(NobodyCame(now=NOW, workers={"w1": "a"})),
    st.builds(lambda token: replace(failure(retryable=True), token=token), TOKENS),
    st.just(CancelAsked(now=NOW)),
    st.just(TokenMissing(now=NOW)),
)


@given(st.lists(st.one_of(EVENTS, st.just("release")), max_size=30))
def test_whatever_happens_a_job_ends_at_most_once_and_never_runs_too_often(events: list[Event | str]) -> None:
    current, ends = job(state=State.QUEUED), 0
    for event in events:
        if isinstance(event, str):
            current = replace(current, state=State.RELEASED) if current.state is State.QUEUED else current
            continue
        decision = decide(current, event)
        ends += len(effects(decision, Ended))
        assert decision.job.epoch >= current.epoch
        assert 0 <= decision.job.attempts <= MAX_ATTEMPTS
        if current.state.terminal:
            assert decision.job is current
        assert decision.job.state.terminal == (decision.job.ended_at is not None)
        assert (decision.job.state in (State.RUNNING, State.CANCELING)) <= (decision.job.token is not None)
        current = decision.job
    assert ends == int(current.state.terminal)
