"""Which workers count where a job looks for one that can run it."""

from __future__ import annotations

from limner.bus.messages import Heartbeat
from limner.services.announced import MISSED_SECONDS
from limner.services.roster import Roster


def beat(worker: str, catalogue: str, state: str = "idle") -> Heartbeat:
    return Heartbeat(worker=worker, pool="default", state=state, version="1", catalogue=catalogue)


def test_a_worker_that_is_missing_counts_for_a_minute() -> None:
    roster = Roster()
    roster.hear([beat("a", "A"), beat("b", "B")], 0.0)
    roster.hear([beat("a", "A")], 30.0)
    assert roster.catalogues([], MISSED_SECONDS - 1) == {"a": "A", "b": "B"}
    assert roster.catalogues([], MISSED_SECONDS) == {"a": "A"}


def test_what_a_worker_says_now_counts() -> None:
    roster = Roster()
    roster.hear([beat("a", "A")], 0.0)
    assert roster.catalogues([beat("a", "A2"), beat("new", "")], 1.0) == {"a": "A2", "new": ""}


def test_one_that_takes_no_more_jobs_counts_no_more() -> None:
    roster = Roster()
    roster.hear([beat("a", "A"), beat("b", "B")], 0.0)
    assert roster.catalogues([beat("a", "A", "draining")], 1.0) == {"b": "B"}
    roster.hear([beat("b", "B", "draining")], 2.0)
    assert roster.catalogues([], 3.0) == {"a": "A"}
