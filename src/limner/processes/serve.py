"""`limner serve`: nats-server, gateway and workers as one supervised process tree over one data directory.

The parent stays small: it starts, restarts and stops the others, and holds the listening socket, so that a
gateway that is started again misses no connection.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import socket
import time
from collections.abc import Callable, Sequence

from filelock import FileLock, Timeout

from limner import logs
from limner.errors import Misconfigured
from limner.processes.children import Child, python_module
from limner.processes.engines import Chosen, check_own, engines_of_server
from limner.processes.family import Family, Member
from limner.processes.fleet import Fleet
from limner.processes.listening import listen
from limner.processes.nats import NatsServer, find_server
from limner.settings import Settings

log = logs.get("serve")

READY_POLL_SECONDS = 0.05
GATEWAY_STOP_SECONDS = 10.0
NATS_STOP_SECONDS = 10.0
NATS_START_SECONDS = 3.0  # then the others start all the same, and wait for it themselves


def serve(settings: Settings, *, on_ready: Callable[[str, float], None]) -> int:
    """Runs the tree until Ctrl-C or SIGTERM; gives the exit code. `on_ready` gets the URL and the seconds it took.

    Raises Misconfigured when the address, the port, the data directory or nats-server does not allow it.
    """
    began = time.monotonic()
    settings.check_exposure()
    engines = engines_of_server(settings)
    check_own(engines)
    settings = dataclasses.replace(settings, output_dir=settings.output_dir or settings.data_dir / "output")
    settings.prepare_data_dir()
    lock = _take_data_dir(settings)
    try:
        with listen(settings.host, settings.port) as listener:
            return asyncio.run(_Tree(settings, engines, listener, began, on_ready).run())
    finally:
        lock.release()


class _Tree:
    def __init__(
        self,
        settings: Settings,
        engines: Sequence[Chosen],
        listener: socket.socket,
        began: float,
        on_ready: Callable[[str, float], None],
    ) -> None:
        self._began = began
        self._on_ready = on_ready
        self._engines = engines
        self._settings = settings
        self._listener = listener

    async def run(self) -> int:
        nats = _nats_server(self._settings)
        try:
            return await self._run(nats)
        finally:
            if nats is not None:
                nats.release()

    async def _run(self, nats: NatsServer | None) -> int:
        """Workers stop first: their last reports need the gateway, and both need NATS."""
        settings = dataclasses.replace(self._settings, nats_url=nats.url) if nats is not None else self._settings
        fleet, gateway, queue = Fleet(self._engines, settings), self._gateway(settings), _queue(nats)

        async def start() -> None:
            for child in queue:
                child.start()
            if nats is not None:
                await nats.wait_open(NATS_START_SECONDS)
            members: list[Member] = [gateway, *fleet.supervisors, *fleet.instances]
            for member in members:
                member.start()

        ready = asyncio.create_task(self._announce())
        try:
            return await Family(fleet.supervisors, [gateway], queue, fleet.instances, on_stop=fleet.retire).run(start())
        finally:
            ready.cancel()

    def _gateway(self, settings: Settings) -> Child:
        number = self._listener.fileno()
        command = python_module("limner.processes.gateway", "--fd", str(number), "--parent", str(os.getpid()))
        alone = dataclasses.replace(settings, engines=(), starts=())  # their passwords are the supervisors' matter
        env = {**os.environ, **alone.to_env()}
        return Child("gateway", command, env=env, keep_open=[number], stop_seconds=GATEWAY_STOP_SECONDS)

    async def _announce(self) -> None:
        """Says where the server is, as soon as it answers that it is ready."""
        host, port = self._listener.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        while not await _answers_ready(host, port):  # noqa: ASYNC110 - it is another process
            await asyncio.sleep(READY_POLL_SECONDS)
        self._on_ready(f"http://{shown}:{port}", time.monotonic() - self._began)


def _queue(nats: NatsServer | None) -> list[Child]:
    if nats is None:
        return []
    return [Child("nats-server", nats.command, stop_seconds=NATS_STOP_SECONDS, may_give_up=False)]


def _nats_server(settings: Settings) -> NatsServer | None:
    """The server to start, none where one runs elsewhere."""
    if settings.nats_url:
        return None
    program, version = find_server(settings)
    log.debug("nats-server", program=str(program), version=version)
    return NatsServer(
        program, folder=settings.data_dir / "nats", log_file=settings.data_dir / "logs" / "nats-server.log"
    )


def _take_data_dir(settings: Settings) -> FileLock:
    path = settings.data_dir / "limner.lock"
    lock = FileLock(path)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise Misconfigured(
            f"another `limner serve` uses the data directory {settings.data_dir}; stop it, or use another --data-dir"
        ) from None
    return lock


async def _answers_ready(host: str, port: int) -> bool:
    try:
        reader, writer = await asyncio.open_connection(host, port)
        try:
            writer.write(f"GET /readyz HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n".encode())
            status = await asyncio.wait_for(reader.readline(), 10.0)
        finally:
            writer.close()
    except (OSError, TimeoutError):
        return False
    return b" 200 " in status
