"""The HTTP routes that packs declare: which there are, and their handlers called with real aiohttp requests.

Nothing listens. Each request goes through a pair of connected sockets: aiohttp's server at one end, on the packs' loop,
and a plain HTTP client at the other.
"""

from __future__ import annotations

import asyncio
import http.client
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import CancelledError
from dataclasses import asdict
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from aiohttp import web

from limner import logs
from limner.compat.exchange import FAILED, MARK, UNROUTED, Answered, Asked, exchange, fault, left
from limner.compat.loops import LoopThread

if TYPE_CHECKING:
    from limner.compat.modules.server import PromptServer  # it can be imported in an engine process only

log = logs.get("limner.packs")

SECONDS = 30.0
MOST_REQUEST_BYTES = 2**20
MOST_AT_ONCE = 16


class Routes:
    """Handlers run on `PromptServer.instance.loop`, many at once. One that blocks that loop costs it: the next request
    gets another.
    """

    def __init__(self, server: PromptServer, *, seconds: float = SECONDS) -> None:
        self._server = server
        self._seconds = seconds
        self._threads = threading.BoundedSemaphore(MOST_AT_ONCE)
        self._building = threading.Lock()
        self._served: tuple[LoopThread, web.AppRunner] | None = None
        self.declared = [{"method": method, "path": path} for method, path in _declared(self._application())]

    def serve(self, asked: dict[str, Any], body: bytes, answer: Callable[[dict[str, Any], bytes], None]) -> None:
        """As `ask`, with the members of `Asked` and `Answered` as plain data, but for the bodies."""

        def tell(answered: Answered) -> None:
            members = asdict(answered)
            its_body = members.pop("body")
            answer(members, its_body)

        self.ask(Asked(**{**asked, "headers": [(name, value) for name, value in asked["headers"]]}, body=body), tell)

    def ask(self, asked: Asked, answer: Callable[[Answered], None]) -> None:
        """Calls `answer` from another thread, after `seconds` at the latest."""
        if not self._threads.acquire(blocking=False):
            answer(
                fault(503, "dependency_unavailable", f"{MOST_AT_ONCE} requests to node packs go on; ask again later")
            )
            return

        def work() -> None:
            try:
                answer(self._answer(asked))
            finally:
                self._threads.release()

        threading.Thread(target=work, name="route", daemon=True).start()

    def _answer(self, asked: Asked) -> Answered:
        deadline = time.monotonic() + self._seconds
        ours, theirs = socket.socketpair()
        with ours:
            try:
                self._connect(theirs, deadline)
                return exchange(ours, asked, deadline)
            except TimeoutError:
                self._renew_if_blocked()
                return fault(504, "timeout", f"the node pack did not answer within {self._seconds:g} s")
            except (OSError, http.client.HTTPException, CancelledError) as error:
                return fault(500, "node_pack_error", f"the node pack broke off its answer ({type(error).__name__})")

    def _connect(self, theirs: socket.socket, deadline: float) -> None:
        """Gives one end to aiohttp's server on the packs' loop. Raises TimeoutError where the loop does not take it."""
        theirs.setblocking(False)

        async def connect() -> None:
            await asyncio.get_running_loop().connect_accepted_socket(runner.server, theirs)  # type: ignore[arg-type]

        taken = False
        try:
            thread, runner = self._running(deadline)
            _wait(thread, connect, deadline)
            taken = True
        finally:
            if not taken:
                theirs.close()

    def _running(self, deadline: float) -> tuple[LoopThread, web.AppRunner]:
        with self._building:
            if self._served is None or self._served[0] is not self._server.loop_thread:
                runner = web.AppRunner(
                    self._application(), handle_signals=False, access_log=None, handler_cancellation=True
                )
                _wait(self._server.loop_thread, runner.setup, deadline)
                self._served = self._server.loop_thread, runner
            return self._served

    def _renew_if_blocked(self) -> None:
        thread = self._server.loop_thread
        if not thread.answers() and self._server.loop_thread is thread:
            log.error("a handler of a node pack blocks the packs' loop: the next request gets a new one")
            self._server.loop_thread = LoopThread()

    def _application(self) -> web.Application:
        """All that packs have declared, by decorator or on the application itself. What cannot be is left out."""
        application = web.Application(middlewares=[_guarded], client_max_size=MOST_REQUEST_BYTES)
        for resource in self._server.app.router.resources():
            if isinstance(resource, web.PlainResource | web.DynamicResource | web.StaticResource):
                application.router.register_resource(resource)
            else:
                log.warning("a route of a node pack is of a kind that is not served", route=str(resource.canonical))
        for definition in self._server.routes:
            try:
                definition.register(application.router)
            except Exception as error:  # a path or a folder that cannot be, or one method twice
                log.warning("a route of a node pack is left out", route=str(definition), error=str(error))
        return application


@web.middleware
async def _guarded(request: web.Request, handler: Callable[[web.Request], Awaitable[object]]) -> web.StreamResponse:
    """Nothing that a handler raises gets further than its own answer."""
    if request.match_info.http_exception is not None:
        return _marked(UNROUTED, status=404)
    try:
        response = await handler(request)
    except (web.HTTPException, asyncio.CancelledError):
        raise
    except BaseException as raised:  # SystemExit too
        log.exception("a handler of a node pack failed", path=request.path)
        return _marked(FAILED, f"{type(raised).__name__}: {raised}")
    if isinstance(response, web.StreamResponse):
        return response
    return _marked(FAILED, f"TypeError: the handler gave a {type(response).__name__}, which is no response")


def _marked(mark: str, message: str = "", *, status: int = 500) -> web.Response:
    """What `exchange` knows not to be a handler's answer."""
    return web.Response(status=status, text=message, headers={MARK: mark})


def _declared(application: web.Application) -> list[tuple[str, str]]:
    """(method, path) of every route; parts of the path that vary are names in braces, `*` is any method."""
    found: dict[tuple[str, str], None] = {}
    for resource in application.router.resources():
        path = unquote(resource.canonical)
        if isinstance(resource, web.StaticResource):
            path = f"{path.rstrip('/')}/{{filename}}"
        found.update({(route.method, path): None for route in resource})
    return list(found)


def _wait(thread: LoopThread, call: Callable[[], Coroutine[Any, Any, None]], deadline: float) -> None:
    """Runs it on the packs' loop. Raises TimeoutError where that does not come to it in time."""
    called = asyncio.run_coroutine_threadsafe(call(), thread.loop)
    try:
        called.result(left(deadline))
    except TimeoutError:
        called.cancel()
        raise
