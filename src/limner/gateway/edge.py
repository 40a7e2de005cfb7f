"""What happens to every request before and after its route: id, origin, size, and the errors nobody expected."""

from __future__ import annotations

import contextlib
import re
import time
import uuid

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from limner import logs
from limner.comfy.dialect.answers import error_answer, error_body, json_answer
from limner.comfy.dialect.bodies import too_large
from limner.gateway.origin import foreign

REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")

SERVER_ERROR = 1011

READING = ("GET", "HEAD", "OPTIONS")
LENGTH_DIGITS = 18

log = logs.get("limner.gateway")


class Edge:
    """The outermost layer. Nothing that goes wrong behind it reaches the caller as a traceback."""

    def __init__(self, app: ASGIApp, *, max_body_bytes: int) -> None:
        self._app = app
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._websocket(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        exchange = _Exchange(_request_id(headers), send, head=scope["method"] == "HEAD")
        with structlog.contextvars.bound_contextvars(request_id=exchange.request_id):
            try:
                refused = self._refused(scope["method"], headers)
                if refused is not None:
                    await refused(scope, receive, exchange.send)
                else:
                    await self._app(scope, _Limited(receive, self._max_body_bytes).receive, exchange.send)
            except ClientDisconnect:
                log.debug("the caller has gone", method=scope["method"], path=scope["path"])
            except Exception:
                log.exception("unexpected error", method=scope["method"], path=scope["path"])
                if exchange.status is None:
                    await _unexpected(exchange.request_id)(scope, receive, exchange.send)
            log.debug("request", method=scope["method"], path=scope["path"], **exchange.measured())

    def _refused(self, method: str, headers: Headers) -> Response | None:
        """An answer that needs no route, for those that get none."""
        if foreign(headers.get("host"), headers.get("origin"), reads_only=method in READING):
            return Response(None, 403)
        if method == "OPTIONS":
            return Response(None, 200)
        length = headers.get("content-length", "")
        if length.isdecimal() and (len(length) > LENGTH_DIGITS or int(length) > self._max_body_bytes):
            return error_answer(too_large(self._max_body_bytes))
        return None

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        if foreign(headers.get("host"), headers.get("origin"), reads_only=False):
            await send({"type": "websocket.close", "code": 1008})
            return
        with structlog.contextvars.bound_contextvars(request_id=_request_id(headers)):
            try:
                await self._app(scope, receive, send)
            except Exception:
                log.exception("unexpected error", path=scope["path"])
                with contextlib.suppress(RuntimeError, OSError):  # it may be closed already
                    await send({"type": "websocket.close", "code": SERVER_ERROR})


class _Exchange:
    """The sending side: puts the id on the answer, takes the body off answers to HEAD, and remembers what was sent."""

    def __init__(self, request_id: str, send: Send, *, head: bool) -> None:
        self.request_id = request_id
        self.status: int | None = None
        self._send = send
        self._head = head
        self._began = time.monotonic()
        self._bytes = 0

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            MutableHeaders(scope=message)["x-request-id"] = self.request_id
        elif message["type"] == "http.response.body":
            if self._head:
                message = {**message, "body": b""}
            self._bytes += len(message.get("body", b""))
        await self._send(message)

    def measured(self) -> dict[str, float | int | None]:
        milliseconds = round((time.monotonic() - self._began) * 1000, 1)
        return {"status": self.status, "duration_ms": milliseconds, "bytes": self._bytes}


class _Limited:
    """The receiving side: counts what comes, for bodies that did not tell their length."""

    def __init__(self, receive: Receive, limit: int) -> None:
        self._receive = receive
        self._limit = limit
        self._got = 0

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._got += len(message.get("body", b""))
            if self._got > self._limit:
                raise too_large(self._limit)
        return message


def _request_id(headers: Headers) -> str:
    """The caller's own id where it is a sensible one, else a new one."""
    given = headers.get("x-request-id", "")
    return given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex


def _unexpected(request_id: str) -> Response:
    message = f"Something went wrong inside Limner. Its log has more under the request id {request_id}."
    return json_answer(error_body("internal", message, request_id=request_id), 500)
