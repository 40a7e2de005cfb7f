"""The children of one parent: stopped in order when it is told to stop, or when one of them gives up."""

from __future__ import annotations

import asyncio
import os
import signal

from limner.processes.family import Family


class Toy:
    """Writes down what is done to it. `deaf`: it stops only when it is killed."""

    def __init__(self, name: str, diary: list[str], *, deaf: bool = False) -> None:
        self._name = name
        self._diary = diary
        self._deaf = deaf
        self._killed = asyncio.Event()
        self.gave_up = asyncio.Event()

    def start(self) -> None:
        self._diary.append(f"{self._name} starts")

    async def stop(self) -> None:
        if self._deaf:
            await self._killed.wait()
        self._diary.append(f"{self._name} stops")

    def kill(self) -> None:
        self._diary.append(f"{self._name} is killed")
        self._killed.set()


async def nothing() -> None:
    """No start of anything."""


async def test_a_signal_stops_one_group_after_the_other() -> None:
    diary: list[str] = []
    first, second, third = (Toy(name, diary) for name in "abc")

    async def start() -> None:
        first.start()
        os.kill(os.getpid(), signal.SIGTERM)  # also one that comes so early

    family = Family([first], [second, third], on_stop=lambda: diary.append("the end"))
    assert await asyncio.wait_for(family.run(start()), 10) == 0
    assert diary == ["a starts", "the end", "a stops", "b stops", "c stops"]


async def test_one_that_gives_up_ends_all_and_its_exit_code_is_theirs() -> None:
    diary: list[str] = []
    first, second = Toy("a", diary), Toy("b", diary)
    second.gave_up.set()
    assert await asyncio.wait_for(Family([first], [second]).run(nothing()), 10) == 2
    assert diary == ["a stops", "b stops"]


async def test_a_second_signal_ends_all_at_once() -> None:
    diary: list[str] = []
    first, second = Toy("a", diary, deaf=True), Toy("b", diary)
    running = asyncio.create_task(Family([first], [second]).run(nothing()))
    await asyncio.sleep(0)
    for _ in range(2):
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.sleep(0)
    assert await asyncio.wait_for(running, 10) == 0
    assert diary == ["a is killed", "b is killed", "a stops", "b stops"]
