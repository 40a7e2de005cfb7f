"""Which catalogues count, as workers come, start again, change and go."""

from __future__ import annotations

from limner.bus.messages import Heartbeat
from limner.services.announced import MISSED_SECONDS, Announced

STORED = {"A", "A2", "A3", "B", "B2", "old"}


def beat(worker: str, catalogue: str) -> Heartbeat:
    return Heartbeat(worker=worker, pool="default", state="idle", version="1", catalogue=catalogue)


def test_what_all_workers_serve_counts() -> None:
    announced = Announced([], 0.0)
    announced.hear([beat("a", "A"), beat("b", "B"), beat("c", "A")], 1.0, stored=STORED)
    assert announced.digests(1.0) == {"A", "B"}


def test_a_worker_that_serves_something_else_no_longer_counts_with_what_it_served() -> None:
    announced = Announced([], 0.0)
    announced.hear([beat("a", "A")], 1.0, stored=STORED)
    announced.hear([beat("a", "A2")], 2.0, stored=STORED)
    assert announced.digests(2.0) == {"A2"}
    announced.offered("a", "A3", 3.0)
    assert announced.digests(3.0) == {"A3"}


def test_a_worker_whose_engine_starts_again_counts_with_what_it_served_for_as_long_as_that_takes() -> None:
    announced = Announced([], 0.0)
    for second in range(0, 600, 5):
        announced.hear([beat("a", "A"), beat("b", "B" if second == 0 else "")], float(second), stored=STORED)
        assert announced.digests(float(second)) == {"A", "B"}


def test_a_worker_that_is_gone_is_missed_for_a_minute() -> None:
    announced = Announced([], 0.0)
    announced.hear([beat("a", "A"), beat("b", "B")], 0.0, stored=STORED)
    announced.hear([beat("a", "A")], MISSED_SECONDS, stored=STORED)
    assert announced.digests(MISSED_SECONDS) == {"A", "B"}
    assert announced.digests(MISSED_SECONDS + 1) == {"A"}


def test_after_a_start_what_was_there_before_counts_until_all_workers_have_spoken() -> None:
    announced = Announced(["A", "B"], 0.0)
    announced.hear([beat("a", "A"), beat("b", "")], 5.0, stored=STORED)
    assert announced.digests(5.0) == {"A", "B"}
    announced.hear([beat("a", "A"), beat("b", "B2")], 10.0, stored=STORED)
    assert announced.digests(10.0) == {"A", "B2"}


def test_a_worker_that_never_speaks_does_not_keep_old_catalogues_for_ever() -> None:
    announced = Announced(["old"], 0.0)
    late = MISSED_SECONDS + 1
    announced.hear([beat("a", "A"), beat("b", "")], late, stored=STORED)
    assert announced.digests(late) == {"A"}


def test_while_nobody_speaks_there_is_nothing_to_tell() -> None:
    announced = Announced(["A"], 0.0)
    assert announced.digests(0.0) == set()
    announced.hear([beat("a", "")], 1.0, stored=STORED)
    assert announced.digests(1.0) == set()


def test_a_catalogue_that_is_still_on_its_way_takes_nothing_away() -> None:
    announced = Announced([], 0.0)
    announced.hear([beat("a", "A"), beat("b", "B")], 1.0, stored=STORED)
    announced.hear([beat("a", "large"), beat("b", "B")], 2.0, stored=STORED)
    assert announced.digests(2.0) == {"A", "B"}
    announced.hear([beat("a", "large"), beat("b", "B")], 3.0, stored={*STORED, "large"})
    assert announced.digests(3.0) == {"large", "B"}


def test_after_a_start_a_catalogue_that_is_still_on_its_way_is_waited_for() -> None:
    announced = Announced(["A", "B"], 0.0)
    announced.hear([beat("a", "A"), beat("b", "large")], 5.0, stored=STORED)
    assert announced.digests(5.0) == {"A", "B"}
