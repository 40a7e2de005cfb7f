"""Live events are lossy, and never the fault of what was committed before them."""

from __future__ import annotations

from limner.bus.memory import MemoryBus
from limner.bus.messages import Live
from limner.services.live import LiveEvents


async def test_what_cannot_be_sent_is_lost_quietly() -> None:
    bus = MemoryBus()
    live = LiveEvents(bus)
    heard: list[str] = []

    async def hear(_subject: str, body: bytes) -> None:
        heard.append(Live.decode(body).kind)

    await bus.subscribe("limner.ev.>", hear)
    bus.down = True
    await live.queue_changed("t", 1)
    bus.down = False
    await live._send("limner.ev.t.j", live_event("x" * 9_000_000))
    await live._send("limner.ev.t.j", live_event("x"))
    assert heard == ["Ended"]


def live_event(words: str) -> Live:
    return Live(job="j", prompt_id="p", client_id=None, attempt=1, seq=1, kind="Ended", data={"error": words})
