"""Requests to the HTTP routes of node packs. They come last: what any route of Limner's takes never gets here."""

from __future__ import annotations

from http import HTTPStatus
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from limner.comfy.dialect.answers import error_body, json_answer
from limner.comfy.dialect.reserved import is_core
from limner.gateway.origin import foreign
from limner.graph.file_types import TYPES, UNKNOWN
from limner.services.pack_routes import Headers, PackAnswer, PackRequest, PackRoutes

MOST_BYTES = 2**20
KEPT_BACK = frozenset({
    "authorization", "proxy-authorization", "cookie", "cookie2", "x-api-key", "comfy-user",
    "connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "expect",
    "content-length", "accept-encoding",
})  # fmt: skip
"""Headers that packs do not get: credentials, and those that are between two ends of a connection."""

PASSED_ON = frozenset({
    "content-disposition", "content-encoding", "content-language", "content-range", "accept-ranges", "cache-control",
    "etag", "expires", "last-modified", "allow", "retry-after", "vary",
})  # fmt: skip
"""Headers of an answer that callers get, beside its type and a Location on this server."""

HARMLESS = frozenset({*TYPES.values(), "text/csv", "application/zip", "application/x-ndjson"})
"""Types that a browser does not run on the server's pages; others come as mere bytes."""


class PackFace:
    """What answers where no route of the gateway does. `otherwise`: what does so for paths that no pack has."""

    def __init__(self, routes: PackRoutes, pool: str, *, otherwise: ASGIApp) -> None:
        self._routes = routes
        self._pool = pool
        self._otherwise = otherwise

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = None
        if scope["type"] == "http":
            answer = await self._answer(Request(scope, receive))
        elif scope["type"] == "websocket" and await self._has(scope, "GET"):
            message = "WebSockets of node packs are not served"
            await WebSocket(scope, receive, send).send_denial_response(_fault(501, "not_implemented", message))
            return
        await (answer or self._otherwise)(scope, receive, send)

    async def _has(self, scope: Scope, method: str) -> bool:
        return not is_core(scope["path"]) and await self._routes.has(self._pool, method, _path(scope))

    async def _answer(self, request: Request) -> Response | None:
        if not await self._has(request.scope, request.method):
            return None
        if _from_elsewhere(request):
            return Response(None, 403)
        body = await _body(request)
        if body is None:
            return _fault(413, "payload_too_large", f"a node pack takes bodies of up to {MOST_BYTES >> 20} MiB")
        asked = PackRequest(
            method=request.method,
            path=_path(request.scope),
            query=request.scope["query_string"].decode("latin-1"),
            headers=[(name, value) for name, value in request.headers.items() if name not in KEPT_BACK],
            body=body,
        )
        answer = await self._routes.ask(self._pool, asked)
        return None if answer is None else _response(answer)


def _path(scope: Scope) -> str:
    return scope["raw_path"].decode("latin-1") if scope.get("raw_path") else quote(scope["path"])


def _from_elsewhere(request: Request) -> bool:
    """Whether a page of another site sends it. Here GET may change things too, so that not even that is let through."""
    headers = request.headers
    return headers.get("sec-fetch-site") == "cross-site" or foreign(
        headers.get("host"), headers.get("origin"), reads_only=False
    )


async def _body(request: Request) -> bytes | None:
    """None where it is too large; the rest of it is not read then."""
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MOST_BYTES:
            return None
    return bytes(body)


def _response(answer: PackAnswer) -> Response:
    if answer.fault is not None:
        code, message = answer.fault
        fault = _fault(answer.status, code, message)
        if answer.status == HTTPStatus.SERVICE_UNAVAILABLE:
            fault.headers["retry-after"] = "1"
        return fault
    return Response(answer.body, answer.status, headers=_told(answer.headers))


def _told(headers: Headers) -> dict[str, str]:
    given = {name.lower(): value for name, value in headers}
    told = {name: value for name, value in given.items() if name in PASSED_ON}
    told["content-type"] = _harmless(given.get("content-type", UNKNOWN))
    told["x-content-type-options"] = "nosniff"
    location = given.get("location", "")
    if location.startswith("/") and not location.startswith(("//", "/\\")):
        told["location"] = location
    return told


def _harmless(content_type: str) -> str:
    essence = content_type.partition(";")[0].strip().lower()
    return content_type if essence in HARMLESS else UNKNOWN


def _fault(status: int, code: str, message: str) -> Response:
    answer = json_answer(error_body(code, message), status)
    answer.headers["x-content-type-options"] = "nosniff"
    return answer
