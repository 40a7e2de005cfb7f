"""Stopping one prompt, at an instance whose queue a test moves."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any, cast

from limner.worker.engines.comfyui.client import ComfyClient, Unreachable
from limner.worker.engines.comfyui.patience import Patience
from limner.worker.engines.comfyui.queue import Item, Queue
from limner.worker.engines.comfyui.stopping import Stopping

SOON_SECONDS = 5.0
OURS, OTHER = Item(prompt_id="ours"), Item(prompt_id="other")


@dataclass
class Told:
    """`queues`: what the looks find, the last one for ever; `said`: what was asked for."""

    queues: list[Queue]
    said: list[str] = field(default_factory=list)
    faults: int = 0
    entry: dict[str, Any] | None = None
    news: asyncio.Event = field(default_factory=asyncio.Event)
    restarts: int = 0

    async def queue(self) -> Queue:
        if self.faults:
            self.faults -= 1
            raise Unreachable("no answer")
        return self.queues.pop(0) if len(self.queues) > 1 else self.queues[0]

    async def history(self, prompt_id: str) -> dict[str, Any] | None:
        return self.entry

    async def interrupt(self, prompt_id: str) -> None:
        self.said.append(f"interrupt {prompt_id}")

    async def dequeue(self, prompt_id: str) -> None:
        self.said.append(f"dequeue {prompt_id}")

    def restart(self) -> None:
        self.restarts += 1

    def stopping(self, *, grace: float = 60.0, deaf: float = 60.0, supervised: bool = False) -> Stopping:
        return Stopping(
            cast(ComfyClient, self),
            Patience(stop_again=0.001, deaf=deaf),
            grace,
            ask_restart=self.restart if supervised else None,
            tell=self.news.set,
        )

    async def looks(self, count: int) -> None:
        async with asyncio.timeout(SOON_SECONDS):
            for _ in range(count):
                self.news.clear()
                await self.news.wait()


async def until_done(stopping: Stopping, told: Told) -> None:
    while not stopping.done:
        await told.looks(1)


async def test_what_runs_is_interrupted_again_and_again() -> None:
    told = Told([Queue((OURS,), (OTHER,))])
    stopping = told.stopping()
    stopping.found("ours")
    stopping.ask()
    await told.looks(3)
    await stopping.close()
    assert len(told.said) >= 3
    assert set(told.said) == {"interrupt ours"}


async def test_what_waits_is_taken_out_and_nobody_elses_prompt_is_touched() -> None:
    told = Told([Queue((OTHER,), (OURS,)), Queue((OTHER,), ())])
    stopping = told.stopping()
    stopping.found("ours")
    stopping.ask()
    await until_done(stopping, told)
    await stopping.close()
    assert stopping.out
    assert told.said == ["dequeue ours"]


async def test_a_prompt_that_begins_while_it_is_taken_out_is_interrupted() -> None:
    told = Told([Queue((OTHER,), (OURS,)), Queue((OURS,), ())])
    stopping = told.stopping()
    stopping.found("ours")
    stopping.ask()
    await told.looks(2)
    await stopping.close()
    assert not stopping.out
    assert told.said[:2] == ["dequeue ours", "interrupt ours"]


async def test_a_prompt_that_ended_is_left_alone() -> None:
    told = Told([Queue((OTHER,), ())])
    stopping = told.stopping()
    stopping.found("ours")
    stopping.ask()
    await told.looks(1)
    await stopping.close()
    assert not told.said
    assert not stopping.done


async def test_a_prompt_that_ended_is_no_reason_to_restart_its_instance() -> None:
    """Its files may still be on their way, for longer than a run may take to stop."""
    told = Told([Queue((OURS,), ()), Queue()])
    stopping = told.stopping(grace=0.0005, deaf=0.0005, supervised=True)
    stopping.found("ours")
    stopping.ask()
    await told.looks(2)
    await asyncio.sleep(0.02)  # nothing more may come
    assert (stopping.done, told.restarts, told.said) == (False, 0, ["interrupt ours"])
    await stopping.close()


async def test_what_is_asked_after_the_prompt_is_over_touches_nothing() -> None:
    told = Told([Queue((OURS,), ())])
    stopping = told.stopping(grace=0.0, supervised=True)
    stopping.found("ours")
    await stopping.close()
    stopping.ask()
    async with asyncio.timeout(SOON_SECONDS):
        await stopping.overdue()
    assert (told.said, told.restarts) == ([], 0)


async def test_what_is_asked_before_the_prompt_is_there_is_done_when_it_is() -> None:
    told = Told([Queue((OURS,), ())])
    stopping = told.stopping()
    stopping.ask()
    await asyncio.sleep(0)
    assert not told.said
    stopping.found("ours")
    await told.looks(1)
    await stopping.close()
    assert told.said[0] == "interrupt ours"


async def test_an_instance_that_does_not_answer_is_asked_again() -> None:
    told = Told([Queue((OURS,), ())], faults=2)
    stopping = told.stopping()
    stopping.found("ours")
    stopping.ask()
    await told.looks(3)
    await stopping.close()
    assert "interrupt ours" in told.said


async def test_a_deaf_instance_is_restarted_once_where_somebody_can() -> None:
    told = Told([Queue((OURS,), ())])
    stopping = told.stopping(grace=0.0, supervised=True)
    stopping.found("ours")
    stopping.ask()
    await until_done(stopping, told)
    await stopping.close()
    assert stopping.forced
    assert told.restarts == 1


async def test_a_deaf_instance_that_nobody_can_restart_is_given_up() -> None:
    told = Told([Queue((OURS,), ())])
    stopping = told.stopping(grace=0.0, deaf=0.0)
    stopping.found("ours")
    stopping.ask()
    await until_done(stopping, told)
    await stopping.close()
    assert stopping.deaf
    assert not stopping.forced
