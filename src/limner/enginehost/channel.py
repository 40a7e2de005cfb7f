"""The engine's end of the socketpair: any thread may send, one thread of its own reads."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import Any

from limner.enginehost.protocol import Decoder, Frame, encode

READ_BYTES = 1 << 20


class Channel:
    """Frames to and from the supervisor. `hold` lets short-lived news ride along with the next frame."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._lock = threading.Lock()
        self._held = bytearray()

    def send(self, header: dict[str, Any], tail: bytes = b"") -> None:
        """Sends what was held, then this frame. A supervisor that is gone is noticed by `read`."""
        with self._lock:
            self._held += encode(header, tail)
            data, self._held = bytes(self._held), bytearray()
            try:
                self._sock.sendall(data)
            except (BrokenPipeError, ConnectionResetError):
                return

    def hold(self, header: dict[str, Any]) -> None:
        """Queues a frame that another one follows at once: fewer wake-ups on both sides."""
        with self._lock:
            self._held += encode(header)

    def read(self, on_frame: Callable[[Frame], None], *, every_seconds: float, on_tick: Callable[[], None]) -> None:
        """Hands each frame to `on_frame` until the supervisor hangs up; `on_tick` while nothing comes."""
        self._sock.settimeout(None)
        poll = _poller(self._sock)
        decoder = Decoder()
        while True:
            if not poll(every_seconds):
                on_tick()
                continue
            try:
                data = self._sock.recv(READ_BYTES)
            except ConnectionResetError:
                return
            if not data:
                return
            for frame in decoder.feed(data):
                on_frame(frame)


def _poller(sock: socket.socket) -> Callable[[float], bool]:
    """Waits for bytes without a timeout on the socket itself, which would hold for senders as well."""
    import selectors

    selector = selectors.DefaultSelector()
    selector.register(sock, selectors.EVENT_READ)
    return lambda seconds: bool(selector.select(seconds))
