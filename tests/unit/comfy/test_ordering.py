"""Live messages are passed on in the order of their numbers, the end last, and never held for long."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from limner.bus.messages import Live
from limner.comfy.dialect.ordering import PATIENCE_SECONDS, Arrival, InOrder


def message(seq: int, *, kind: str = "StepDone", attempt: int = 1, **data: Any) -> Arrival:
    live = Live(job="j", prompt_id="p", client_id="c", attempt=attempt, seq=seq, kind=kind, data=data)
    return Arrival(live=live)


def end(last: int, attempt: int = 1) -> Arrival:
    return message(0, kind="Ended", attempt=attempt, last_seq=last)


def numbers(arrivals: list[Arrival]) -> list[int | str]:
    return ["end" if each.live.kind == "Ended" else each.live.seq for each in arrivals]


def test_the_end_waits_for_the_message_it_names() -> None:
    order = InOrder()
    assert numbers(order.push(message(1), 0)) == [1]
    assert numbers(order.push(end(3), 0)) == []
    assert order.deadline == PATIENCE_SECONDS
    assert numbers(order.push(message(2), 0.1)) == [2]
    assert numbers(order.push(message(3), 0.1)) == [3, "end"]
    assert order.deadline is None


def test_the_end_does_not_wait_for_ever() -> None:
    order = InOrder()
    order.push(message(1), 0)
    order.push(end(4), 0)
    order.push(message(3), 0)
    assert numbers(order.expired()) == [3, "end"]


def test_a_gap_is_given_up_and_what_then_comes_late_still_passes() -> None:
    order = InOrder()
    order.push(message(1), 0)
    assert numbers(order.push(message(3), 0)) == []
    assert numbers(order.expired()) == [3]
    assert numbers(order.push(message(2), 1)) == [2]
    assert numbers(order.push(message(4), 1)) == [4]


def test_who_comes_late_begins_with_what_is_heard_first() -> None:
    order = InOrder()
    assert numbers(order.push(message(17), 0)) == [17]
    assert numbers(order.push(message(18), 0)) == [18]


def test_an_end_without_any_event_is_passed_on_at_once() -> None:
    assert numbers(InOrder().push(end(0), 0)) == ["end"]


def test_a_new_attempt_begins_anew_and_the_old_one_is_no_longer_heard() -> None:
    order = InOrder()
    order.push(message(1), 0)
    order.push(message(9), 0)
    assert numbers(order.push(message(1, attempt=2), 0)) == [1]
    assert numbers(order.push(message(2), 0)) == []
    assert numbers(order.push(message(2, attempt=2), 0)) == [2]
    assert numbers(order.push(end(2, attempt=2), 0)) == ["end"]


@given(st.permutations(range(2, 12)))
def test_any_mixture_comes_out_in_order(mixed: list[int]) -> None:
    order = InOrder()
    out = order.push(message(1), 0) + order.push(end(11), 0)
    for seq in mixed:
        out += order.push(message(seq), 0)
    assert numbers(out) == [*range(1, 12), "end"]
