"""One HTTP request to a handler of a node pack, over a socket that leads to it, and what came of it."""

from __future__ import annotations

import contextlib
import http.client
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import quote

MOST_ANSWER_BYTES = 8 * 2**20
PIECE_BYTES = 2**16
TARGET_SIGNS = "/?#[]@!$&'()*+,;=:%-._~|^`\"<>{}\\"
"""What stays as it is in the path and query of a request. All else would be no HTTP."""

MARK = "X-Limner-Outcome"
UNROUTED = "unrouted"
FAILED = "failed"
"""Header and its values on what is no handler's answer: no pack has the route, or the handler raised."""

STREAMS = ("text/event-stream", "multipart/x-mixed-replace")

Headers = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """`path` as it was sent, percent-encoded. `query` without its question mark."""

    method: str
    path: str
    query: str = ""
    headers: Headers = ()
    body: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """`routed` false: no pack has this route. `fault`: (code, message) where there is no answer of a handler."""

    routed: bool = True
    status: int = HTTPStatus.OK
    headers: Headers = ()
    body: bytes = b""
    fault: tuple[str, str] | None = None


def exchange(sock: socket.socket, asked: Asked, deadline: float) -> Answered:
    """One request and its answer. Raises TimeoutError, and OSError or HTTPException where the answer breaks off."""
    connection = http.client.HTTPConnection("localhost")
    connection.sock = sock
    sock.settimeout(left(deadline))
    target = quote(f"{asked.path}?{asked.query}" if asked.query else asked.path, safe=TARGET_SIGNS)
    try:
        has_host = any(name.lower() == "host" for name, _ in asked.headers)
        connection.putrequest(asked.method, target, skip_host=has_host, skip_accept_encoding=True)
        for name, value in (*asked.headers, ("Connection", "close"), ("Content-Length", str(len(asked.body)))):
            connection.putheader(name, value)
    except (ValueError, http.client.InvalidURL) as error:
        return fault(400, "invalid_input", f"the request cannot be passed on: {error}")
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it may have answered without reading all
        connection.endheaders(asked.body or None)
    response = connection.getresponse()
    if (mark := response.headers.get(MARK)) is not None:
        message = response.read(MOST_ANSWER_BYTES).decode(errors="replace")
        return Answered(routed=False) if mark == UNROUTED else fault(500, "node_pack_error", message)
    if response.headers.get_content_type() in STREAMS or response.status < HTTPStatus.OK:
        return NO_STREAMS
    try:
        body = b"".join(_pieces(sock, response, deadline))
    except TimeoutError:
        return NO_STREAMS
    if len(body) > MOST_ANSWER_BYTES:
        return fault(501, "not_implemented", f"the node pack's answer has more than {MOST_ANSWER_BYTES >> 20} MiB")
    return Answered(status=response.status, headers=tuple(response.getheaders()), body=body)


def _pieces(sock: socket.socket, response: http.client.HTTPResponse, deadline: float) -> Iterator[bytes]:
    """The body, and no more of it than tells that it is too large."""
    got = 0
    while got <= MOST_ANSWER_BYTES:
        sock.settimeout(left(deadline))
        piece = response.read1(PIECE_BYTES)
        if not piece:
            return
        got += len(piece)
        yield piece


def left(deadline: float) -> float:
    """Seconds until then. Raises TimeoutError where there are none."""
    if (seconds := deadline - time.monotonic()) <= 0:
        raise TimeoutError
    return seconds


def fault(status: int, code: str, message: str) -> Answered:
    return Answered(status=status, fault=(code, message))


NO_STREAMS = fault(501, "not_implemented", "the node pack streams its answer, or did not end it in time")
