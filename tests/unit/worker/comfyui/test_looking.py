"""When a prompt counts as lost, by a clock and an instance that a test moves."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from limner.worker.engines.comfyui.client import ComfyClient, Refused, Unreachable
from limner.worker.engines.comfyui.looking import Looking, Place
from limner.worker.engines.comfyui.patience import Patience
from limner.worker.engines.comfyui.queue import Item, Queue
from limner.worker.engines.port import EngineLost

REFUSED = Unreachable("nobody listens", refused=True)
SLOW = Unreachable("no answer in time", slow=True)
CUT_OFF = Unreachable("no route to host")
BROKEN = Refused(500, "Internal Server Error")


@dataclass
class Told:
    """An instance that tells this, or fails so."""

    queue_: Queue = field(default_factory=Queue)
    entry: dict[str, Any] | None = None
    fault: Exception | None = None
    now: float = 0.0

    async def queue(self) -> Queue:
        if self.fault is not None:
            raise self.fault
        return self.queue_

    async def history(self, prompt_id: str) -> dict[str, Any] | None:
        if self.fault is not None:
            raise self.fault
        return self.entry

    def looking(self, token: str = "t") -> Looking:
        return Looking(cast(ComfyClient, self), "p", token, Patience(), clock=lambda: self.now)


def entry(token: str) -> dict[str, Any]:
    return {"prompt": [1, "p", {}, {"limner": {"job": "p", "token": token}}, []], "outputs": {}}


async def test_a_prompt_is_found_where_it_is() -> None:
    item = Item(prompt_id="p")
    assert await Told(Queue((item,), ())).looking().look() is Place.RUNNING
    assert await Told(Queue((), (item,))).looking().look() is Place.WAITING
    assert await Told(entry=entry("t")).looking().look() is Place.ENDED


async def test_an_entry_of_an_earlier_attempt_is_not_its_own() -> None:
    told = Told(entry=entry("earlier"))
    assert await told.looking().look() is Place.ABSENT
    assert await told.looking("").look() is Place.ENDED
    told.entry = {"outputs": {}}
    assert await told.looking().look() is Place.ENDED


async def test_one_look_that_does_not_find_it_is_not_enough() -> None:
    told = Told()
    looking = told.looking()
    for now in (0.0, 0.1, 0.2, 0.3, 1.9):
        told.now = now
        assert await looking.look() is Place.ABSENT
    told.now = 2.0
    with pytest.raises(EngineLost):
        await looking.look()


async def test_a_prompt_that_shows_up_again_was_not_lost() -> None:
    told = Told()
    looking = told.looking()
    for now in (0.0, 1.0, 1.9):
        told.now = now
        await looking.look()
    told.queue_ = Queue((Item(prompt_id="p"),), ())
    told.now = 2.5
    await looking.look()
    told.queue_ = Queue()
    for now in (3.0, 4.0, 4.9):
        told.now = now
        assert await looking.look() is Place.ABSENT


@pytest.mark.parametrize(("fault", "limit"), [(REFUSED, 2.0), (CUT_OFF, 30.0), (BROKEN, 30.0), (SLOW, 120.0)])
async def test_an_instance_that_does_not_answer_is_lost_after_a_while(fault: Exception, limit: float) -> None:
    told = Told(fault=fault)
    looking = told.looking()
    for now in (0.0, limit / 2, limit - 0.1):
        told.now = now
        assert await looking.look() is Place.UNKNOWN
    told.now = limit
    with pytest.raises(EngineLost):
        await looking.look()


async def test_an_answer_or_an_event_in_between_begins_the_wait_anew() -> None:
    told = Told(fault=CUT_OFF)
    looking = told.looking()
    await looking.look()
    told.now = 29.0
    looking.heard()
    await looking.look()
    told.now = 58.0
    assert await looking.look() is Place.UNKNOWN
    told.fault, told.queue_ = None, Queue((Item(prompt_id="p"),), ())
    assert await looking.look() is Place.RUNNING
    told.fault, told.now = CUT_OFF, 70.0
    assert await looking.look() is Place.UNKNOWN
