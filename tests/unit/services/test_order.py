"""In which order jobs start, whatever was submitted when."""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.durable import Durable, durable


@dataclass(frozen=True)
class Submit:
    number: float | None = None
    front: bool = False
    priority: int = 0


@dataclass(frozen=True)
class TakeNext:
    pass


NUMBERS = st.one_of(st.none(), st.integers(-5, 5).map(float), st.floats(-5, 5))
SUBMITS = st.builds(Submit, number=NUMBERS, front=st.booleans())
WITH_PRIORITY = st.builds(Submit, number=NUMBERS, front=st.booleans(), priority=st.integers(-2, 2))


def order_of(steps: list[Submit | TakeNext]) -> tuple[list[str], list[str]]:
    """(the order in which a worker got the jobs, the order that ComfyUI's rule gives)"""

    async def play() -> tuple[list[str], list[str]]:
        claimed: list[str] = []
        expected: list[str] = []
        waiting: list[tuple[int, float, int, str]] = []
        counter = 0
        with tempfile.TemporaryDirectory() as folder:
            async with durable(Path(folder)) as d:
                d.release.window = 3  # small, so that most jobs wait in SQL
                for place, step in enumerate([*steps, *[TakeNext()] * len(steps)]):
                    if isinstance(step, TakeNext):
                        taken = await d.take()
                        assert (taken is None) == (not waiting)
                        if taken is not None:
                            claimed.append(taken[1].prompt_id)
                            expected.append(waiting.pop(0)[3])
                        continue
                    number = step.number if step.number is not None else float(-counter if step.front else counter)
                    counter += step.number is None
                    job = await d.submit(f"p{place}", number=step.number, front=step.front, priority=step.priority)
                    assert job.number == number
                    waiting.append((-step.priority, number, place, job.prompt_id))
                    waiting.sort()
        return claimed, expected

    return asyncio.run(play())


@settings(max_examples=25, deadline=None)
@given(st.lists(st.one_of(SUBMITS, SUBMITS, st.builds(TakeNext)), max_size=16))
def test_jobs_start_by_number_then_arrival(steps: list[Submit | TakeNext]) -> None:
    claimed, expected = order_of(steps)
    assert claimed == expected


@settings(max_examples=10, deadline=None)
@given(st.lists(st.one_of(WITH_PRIORITY, WITH_PRIORITY, st.builds(TakeNext)), max_size=16))
def test_priority_goes_before_number(steps: list[Submit | TakeNext]) -> None:
    claimed, expected = order_of(steps)
    assert claimed == expected


async def take_all(d: Durable) -> list[str]:
    order = []
    while taken := await d.take():
        order.append(taken[1].prompt_id)
    return order


async def test_the_last_front_job_runs_first(tmp_path: Path) -> None:
    async with durable(tmp_path) as d:
        for prompt_id in ("a", "b"):
            await d.submit(prompt_id)
        for prompt_id in ("front1", "front2"):
            await d.submit(prompt_id, front=True)
        assert await take_all(d) == ["front2", "front1", "a", "b"]


async def test_the_queue_view_shows_the_order_to_come(tmp_path: Path) -> None:
    async with durable(tmp_path) as d:
        for place in range(12):
            await d.submit(f"p{place}", number=float(-place % 5))
        pending = [job.prompt_id for job in (await d.jobs.queue("default")).pending]
        assert pending == await take_all(d)


async def test_a_released_job_is_recalled_when_another_sorts_before_it(tmp_path: Path) -> None:
    """Its token is refused even where a worker pulled it before it was taken back."""
    async with durable(tmp_path) as d:
        await d.submit("later")
        pulled = await d.pull()
        assert pulled is not None
        await d.submit("first", number=-1.0)
        refused = await d.claim(pulled)
        assert not refused.ok
        assert "epoch" in refused.reason
        await pulled.ack()
        assert await take_all(d) == ["first", "later"]


@pytest.mark.parametrize("backlog", [3, 30])
async def test_a_new_tenant_does_not_wait_for_another_ones_backlog(tmp_path: Path, backlog: int) -> None:
    async with durable(tmp_path) as d:
        d.release.window = 1
        for place in range(backlog):
            await d.submit(f"a{place}", tenant="a")
        await d.submit("b0", tenant="b")
        await d.submit("b1", tenant="b")
        order = await take_all(d)
        assert order.index("b0") <= 2
        assert order.index("b1") <= 4
        assert [name for name in order if name[0] == "a"] == [f"a{place}" for place in range(backlog)]


async def test_tenants_with_backlogs_take_turns(tmp_path: Path) -> None:
    async with durable(tmp_path) as d:
        d.release.window = 1
        for tenant in ("a", "b"):
            for place in range(6):
                await d.submit(f"{tenant}{place}", tenant=tenant, number=float(-place))
        order = await take_all(d)
        for end in range(2, 13, 2):
            turns = [name[0] for name in order[:end]]
            assert abs(turns.count("a") - turns.count("b")) <= 2
        for tenant in ("a", "b"):
            assert [name for name in order if name[0] == tenant] == [f"{tenant}{place}" for place in range(5, -1, -1)]
