"""Probes: /livez and /readyz. Cheap, and never at a worker's cost: without one, jobs can still be accepted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from fastapi import APIRouter
from starlette.responses import JSONResponse

from limner import __version__
from limner.errors import LimnerError
from limner.gateway.deps import Services

CACHED_SECONDS = 5.0
TIMEOUT_SECONDS = 2.0

Check = Callable[[], Awaitable[object]]


def router(services: Services) -> APIRouter:
    routes = APIRouter()
    readiness = Readiness(services)

    @routes.api_route("/livez", methods=["GET", "HEAD"])
    async def livez() -> JSONResponse:
        """The event loop answers."""
        return JSONResponse({"status": "ok", "version": __version__})

    @routes.api_route("/readyz", methods=["GET", "HEAD"])
    async def readyz() -> JSONResponse:
        """The database can be written, the store answers, and nobody has told this gateway to stop."""
        if services.draining.is_set():
            return JSONResponse({"status": "draining", "version": __version__, "checks": {}}, 503)
        checks = await readiness.checks()
        ok = all(check["status"] == "ok" for check in checks.values())
        told = {"status": "ok" if ok else "unready", "version": __version__, "checks": checks}
        return JSONResponse(told, 200 if ok else 503)

    return routes


class Readiness:
    """Asks what a gateway stands on, every few seconds at most. The bus is left out: without it jobs wait in SQL."""

    def __init__(self, services: Services) -> None:
        self._asked: dict[str, Check] = {
            "database": services.jobs.check,
            "storage": lambda: services.blobs.size("readyz"),
        }
        self._known: dict[str, dict[str, object]] = {}
        self._until = 0.0
        self._lock = asyncio.Lock()

    async def checks(self) -> dict[str, dict[str, object]]:
        async with self._lock:
            if time.monotonic() >= self._until:
                self._known = {name: await _ask(check) for name, check in self._asked.items()}
                self._until = time.monotonic() + CACHED_SECONDS
            return self._known


async def _ask(check: Check) -> dict[str, object]:
    began = time.monotonic()
    try:
        await asyncio.wait_for(check(), TIMEOUT_SECONDS)
    except (LimnerError, OSError, TimeoutError) as error:
        return {"status": "failed", "error": str(error) or f"no answer within {TIMEOUT_SECONDS:g} s"}
    return {"status": "ok", "latency_ms": round((time.monotonic() - began) * 1000, 1)}
