"""How long a token that is for another worker stays away from this one."""

from __future__ import annotations

from limner.worker.elsewhere import REMEMBERED_SECONDS, Elsewhere


def test_a_few_stay_away_for_a_second() -> None:
    elsewhere = Elsewhere(lambda: 0.0)
    assert [elsewhere.seconds(f"job {n % 20}") for n in range(100)] == [1.0] * 100


def test_however_many_there_are_at_most_twenty_come_in_a_second() -> None:
    now = 0.0
    elsewhere = Elsewhere(lambda: now)
    due = dict.fromkeys((f"job {n}" for n in range(400)), 0.0)
    met: list[float] = []
    for tick in range(1200):  # a minute
        now = tick * 0.05
        for job in [job for job, at in due.items() if at <= now]:
            met.append(now)
            due[job] = now + elsewhere.seconds(job)
    assert len([at for at in met if at >= 40]) <= 20 * 20 * 1.1


def test_those_that_have_gone_are_forgotten() -> None:
    now = 0.0
    elsewhere = Elsewhere(lambda: now)
    for n in range(100):
        elsewhere.seconds(f"job {n}")
    now = REMEMBERED_SECONDS
    assert elsewhere.seconds("new") == 1.0
