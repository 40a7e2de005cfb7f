"""The engine process from the inside."""

from __future__ import annotations

import socket
import threading

from limner.enginehost.channel import Channel
from limner.enginehost.host import Host, Loaded
from limner.enginehost.protocol import Decoder, EngineInfo


def nothing() -> Loaded:
    raise NotImplementedError


def test_news_of_the_engine_are_told_in_their_order() -> None:
    """The thread that reads tells them too, and may be in the middle of an older state."""
    looking, go_on = threading.Event(), threading.Event()

    def describe(ready: bool) -> EngineInfo:
        if not ready:
            looking.set()
            go_on.wait(10)
        return EngineInfo(ready=ready)

    ours, theirs = socket.socketpair()
    with ours, theirs:
        host = Host(Channel(theirs), describe=describe, load=nothing)
        older, newer = threading.Thread(target=host.announce), threading.Thread(target=host.announce)
        older.start()
        assert looking.wait(10)
        host._ready = True
        newer.start()
        newer.join(0.2)  # where nothing keeps it back, it is through by then
        go_on.set()
        older.join(10)
        newer.join(10)
        told = [frame.header["info"]["ready"] for frame in Decoder().feed(ours.recv(1 << 16))]
    assert told == [False, True]
