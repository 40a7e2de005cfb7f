"""A tenant's feed: from what the bus carries to frames, each run from its first word to its last."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from limner.bus import subjects
from limner.bus.memory import MemoryBus
from limner.bus.messages import Live, encode_preview
from limner.comfy.dialect.feed import Feed
from limner.comfy.dialect.frames import Frame

NODE = {"id": "1", "display": "1", "parent": None, "real": "1"}


class Told:
    """A feed with the frames that it has delivered."""

    def __init__(self, bus: MemoryBus, feed: Feed, frames: list[Frame]) -> None:
        self.bus = bus
        self.feed = feed
        self.frames = frames

    async def tell(self, kind: str, seq: int, *, job: str = "j", attempt: int = 1, **data: Any) -> None:
        live = Live(job=job, prompt_id="p", client_id="c", attempt=attempt, seq=seq, kind=kind, data=data)
        if kind == "PreviewReady":
            await self.bus.publish(subjects.previews("t", job), encode_preview(live, b"picture"))
        else:
            await self.bus.publish(subjects.events("t", job), live.encode())

    async def end(self, last: int, *, job: str = "j") -> None:
        message = ["execution_success", {"prompt_id": "p", "timestamp": 1}]
        ended: dict[str, Any] = {
            "state": "succeeded",
            "queue_remaining": 0,
            "last_seq": last,
            "messages": [message],
            "error": None,
        }
        await self.tell("Ended", last + 1, job=job, **ended)

    def types(self) -> list[str]:
        return ["picture" if isinstance(frame.data, bytes) else json.loads(frame.data)["type"] for frame in self.frames]


@pytest.fixture
async def told() -> AsyncIterator[Told]:
    bus, frames = MemoryBus(), list[Frame]()
    feed = Feed("t", frames.append)
    await feed.start(bus)
    yield Told(bus, feed, frames)
    await feed.stop()
    await bus.close()


async def test_the_length_of_the_queue_is_told_to_all(told: Told) -> None:
    await told.tell("Queue", 0, job="queue", queue_remaining=3)
    (frame,) = told.frames
    assert frame.client is None
    assert json.loads(frame.data) == {"type": "status", "data": {"status": {"exec_info": {"queue_remaining": 3}}}}


async def test_pictures_and_events_are_put_in_order_across_their_subjects(told: Told) -> None:
    await told.tell("NodeStarted", 1, node=NODE)
    await told.tell("StepDone", 3, node=NODE, value=1, maximum=2)
    assert told.types() == ["progress_state", "executing"]
    await told.tell("PreviewReady", 2, node=NODE, image_type="image/png")
    assert told.types()[2:] == ["progress_state", "picture", "progress", "picture"]


async def test_the_running_node_is_known_until_the_end(told: Told) -> None:
    assert told.feed.running_node("c") is None
    await told.tell("NodeStarted", 1, node=NODE)
    assert told.feed.running_node("c") == "1"
    assert told.feed.running_node("other") is None
    await told.end(1)
    assert told.feed.running_node("c") is None


async def test_what_comes_after_the_end_opens_nothing_again(told: Told) -> None:
    await told.end(0)
    known = told.types()
    await told.tell("NodeStarted", 1, node=NODE)
    await told.tell("PreviewReady", 2, node=NODE, image_type="image/png")
    assert told.types() == known
    assert told.feed.running_node("c") is None


async def test_a_second_attempt_is_told_from_its_beginning(told: Told) -> None:
    await told.tell("NodeStarted", 1, node=NODE)
    await told.tell("RunStarted", 1, attempt=2, timestamp_ms=1)
    await told.tell("NodeStarted", 2, attempt=2, node={**NODE, "id": "2"})
    snapshot = json.loads(told.frames[-2].data)["data"]["nodes"]
    assert list(snapshot) == ["2"]


async def test_an_end_whose_last_word_was_lost_comes_after_a_moment(told: Told) -> None:
    await told.tell("NodeStarted", 1, node=NODE)
    await told.end(2)
    assert "execution_success" not in told.types()
    async with asyncio.timeout(5):
        while told.types()[-1] != "executing" or len(told.frames) < 5:
            await asyncio.sleep(0.01)
    assert told.types()[-3:] == ["execution_success", "status", "executing"]


async def test_a_stopped_feed_is_silent(told: Told) -> None:
    await told.tell("NodeStarted", 1, node=NODE)
    await told.tell("NodeFinished", 5, node=NODE, cached=False)
    await told.feed.stop()
    told.frames.clear()
    await told.tell("NodeFinished", 2, node=NODE, cached=False)
    assert told.frames == []
