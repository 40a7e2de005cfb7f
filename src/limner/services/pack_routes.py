"""HTTP routes of node packs: which workers have one, and a request carried to the first that does."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import unquote

from limner.blobs.keys import ANSWERS
from limner.blobs.port import BlobStore
from limner.bus import subjects
from limner.bus.messages import Route, Routed
from limner.bus.port import Bus, NobodyAnswers
from limner.errors import NotFound, Unavailable
from limner.services.catalogues import Catalogues

SECONDS = 36.0
"""How long an answer is waited for. The engine gives a handler 30 s, its supervisor a little more."""

VARYING = re.compile(r"\{[^{}]*\}")
ANY = "*"

Headers = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class PackRequest:
    """`path` percent-encoded, as it came. `query` without its question mark."""

    method: str
    path: str
    query: str = ""
    headers: Headers = ()
    body: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class PackAnswer:
    """`fault`: (code, message) where no handler answered."""

    status: int
    headers: Headers = ()
    body: bytes = b""
    fault: tuple[str, str] | None = None


class PackRoutes:
    def __init__(self, bus: Bus, blobs: BlobStore, catalogues: Catalogues) -> None:
        self._bus = bus
        self._blobs = blobs
        self._catalogues = catalogues

    async def has(self, pool: str, method: str, path: str) -> bool:
        """Whether some pack may have a route for it."""
        return any([await self._workers(pool, method, each) for each in _spellings(path)])

    async def ask(self, pool: str, request: PackRequest) -> PackAnswer | None:
        """What the pack answers; None where no pack has such a route. Raises Unavailable.

        Of several workers with the route it is always the same one, while that one lives: packs keep things in memory.
        """
        gone = False
        for path in _spellings(request.path):
            for worker in await self._workers(pool, request.method, path):
                try:
                    routed = await self._bus.request(
                        subjects.route(worker), _message(request, path), Routed, timeout=SECONDS
                    )
                except NobodyAnswers:
                    gone = True
                    continue
                if routed.answer["routed"]:
                    return await self._answer(routed)
        if gone:
            raise Unavailable("The worker with this node pack is away.")
        return None

    async def _workers(self, pool: str, method: str, path: str) -> list[str]:
        """Which patterns the variable parts follow the engine knows: here any text passes for them."""
        decoded = unquote(path)
        return sorted(
            worker
            for worker, catalogue in (await self._catalogues.of_workers(pool)).items()
            if any(each["method"] in (method, ANY) and covers(each["path"], decoded) for each in catalogue.routes)
        )

    async def _answer(self, routed: Routed) -> PackAnswer:
        told = routed.answer
        fault = told.get("fault")
        return PackAnswer(
            status=int(told["status"]),
            headers=[(str(name), str(value)) for name, value in told.get("headers", ())],
            body=await self._fetch(routed.key) if routed.key else base64.b64decode(routed.body),
            fault=(str(fault[0]), str(fault[1])) if fault else None,
        )

    async def _fetch(self, key: str) -> bytes:
        if not key.startswith(ANSWERS):
            raise Unavailable("The node pack's answer does not lie where answers do.")
        try:
            body = await self._blobs.get(key)
        except NotFound as error:
            raise Unavailable("The node pack's answer got lost on its way.") from error
        with suppress(Unavailable):  # what is left the collector takes
            await self._blobs.delete([key])
        return body


def covers(pattern: str, path: str) -> bool:
    """Whether the path has the pattern's fixed parts in their order. In linear time, whatever a worker tells."""
    first, *others = VARYING.split(pattern)
    if not others:
        return path == first
    *middle, last = others
    if not path.startswith(first) or not path.endswith(last) or len(path) < len(first) + len(last):
        return False
    at, end = len(first), len(path) - len(last)
    for part in middle:
        found = path.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True


def _spellings(path: str) -> list[str]:
    """The path itself, and without /api: every route answers below it as well."""
    return [path, path.removeprefix("/api")] if path.startswith("/api/") else [path]


def _message(request: PackRequest, path: str) -> Route:
    asked = {"method": request.method, "path": path, "query": request.query, "headers": list(request.headers)}
    return Route(asked=asked, body=base64.b64encode(request.body).decode())
