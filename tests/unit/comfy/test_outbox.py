"""A slow reader's frames are bounded: old pictures and outdated snapshots go first, then the socket itself."""

from __future__ import annotations

import asyncio

from limner.comfy.dialect.frames import Frame
from limner.comfy.dialect.outbox import BYTES, FRAMES, PICTURES, Outbox


async def drained(outbox: Outbox) -> list[str | bytes]:
    return [(await outbox.get()).data for _ in range(len(outbox))]


async def test_frames_come_out_as_they_went_in() -> None:
    outbox = Outbox()
    for n in range(5):
        outbox.put(Frame(data=str(n), snapshot="s"))
    assert await drained(outbox) == ["0", "1", "2", "3", "4"]


async def test_a_reader_that_waits_gets_the_next_frame() -> None:
    outbox = Outbox()
    waiting = asyncio.ensure_future(outbox.get())
    await asyncio.sleep(0)
    outbox.put(Frame(data="now"))
    assert (await waiting).data == "now"


async def test_of_waiting_pictures_the_newest_stay() -> None:
    outbox = Outbox()
    for n in range(10):
        outbox.put(Frame(data=bytes([n]), metadata=False))
        outbox.put(Frame(data=str(n)))
    kept = await drained(outbox)
    assert [each for each in kept if isinstance(each, bytes)] == [bytes([n]) for n in range(10 - PICTURES, 10)]
    assert [each for each in kept if isinstance(each, str)] == [str(n) for n in range(10)]


async def test_words_at_a_node_are_no_pictures_and_none_is_lost() -> None:
    outbox = Outbox()
    for n in range(10):
        outbox.put(Frame(data=b"words %d" % n))
        outbox.put(Frame(data=bytes([n]), metadata=True))
    kept = await drained(outbox)
    assert [each for each in kept if b"words" in bytes(each)] == [b"words %d" % n for n in range(10)]  # type: ignore[arg-type]


async def test_only_the_last_snapshots_of_a_long_queue_stay() -> None:
    outbox = Outbox()
    for n in range(100_000):
        outbox.put(Frame(data=f"state {n}", snapshot="a"))
        outbox.put(Frame(data=f"other {n}", snapshot="b"))
    outbox.put(Frame(data="executed"))
    assert not outbox.hopeless
    kept = await drained(outbox)
    assert kept[-3:] == ["state 99999", "other 99999", "executed"]


async def test_a_queue_of_nothing_but_facts_becomes_hopeless() -> None:
    outbox = Outbox()
    for n in range(FRAMES + 1):
        assert not outbox.hopeless
        outbox.put(Frame(data=str(n)))
    assert outbox.hopeless


async def test_so_does_one_of_too_many_bytes() -> None:
    outbox = Outbox()
    for _ in range(3):
        outbox.put(Frame(data="x" * (BYTES // 2)))
    assert outbox.hopeless
