"""`limner serve`: nats-server, gateway and workers as one supervised process tree over one data directory.

The parent stays small: it starts, restarts and stops the others, and holds the listening socket, so that a
gateway that is started again misses no connection.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import signal
import socket
import time
from collections.abc import Callable

from filelock import FileLock, Timeout

from limner import logs
from limner.errors import Misconfigured
from limner.processes.children import Child, python_module
from limner.processes.listening import listen
from limner.processes.nats import NatsServer, find_server
from limner.settings import Settings

log = logs.get("serve")

READY_POLL_SECONDS = 0.05
WORKER_STOP_SECONDS = 20.0
GATEWAY_STOP_SECONDS = 10.0
NATS_STOP_SECONDS = 10.0
NATS_START_SECONDS = 3.0  # then the others start all the same, and wait for it themselves


def serve(settings: Settings, *, on_ready: Callable[[str, float], None]) -> int:
    """Runs the tree until Ctrl-C or SIGTERM; gives the exit code. `on_ready` gets the URL and the seconds it took.

    Raises Misconfigured when the address, the port, the data directory or nats-server does not allow it.
    """
    began = time.monotonic()
    settings.check_exposure()
    settings = dataclasses.replace(settings, output_dir=settings.output_dir or settings.data_dir / "output")
    settings.prepare_data_dir()
    lock = _take_data_dir(settings)
    try:
        with listen(settings.host, settings.port) as listener:
            return asyncio.run(_Tree(settings, listener, began, on_ready).run())
    finally:
        lock.release()


class _Tree:
    def __init__(
        self, settings: Settings, listener: socket.socket, began: float, on_ready: Callable[[str, float], None]
    ) -> None:
        self._began = began
        self._on_ready = on_ready
        self._stop = asyncio.Event()
        self._nats: NatsServer | None = None
        self._children: list[Child] = []  # in the order of starting
        self._settings = settings
        self._listener = listener

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._on_signal)
        self._add_children()
        for child in self._children:
            child.start()
            if self._nats is not None and child is self._children[0]:
                await self._nats.wait_open(NATS_START_SECONDS)
        ready = asyncio.create_task(self._announce())
        gave_up = [asyncio.create_task(child.gave_up.wait()) for child in self._children]
        stopped = asyncio.create_task(self._stop.wait())
        await asyncio.wait({stopped, *gave_up}, return_when=asyncio.FIRST_COMPLETED)
        for task in (ready, stopped, *gave_up):
            task.cancel()
        await self._shut_down()
        return 2 if any(child.gave_up.is_set() for child in self._children) else 0

    def _add_children(self) -> None:
        settings = self._settings
        if not settings.nats_url:
            program, version = find_server(settings)
            log.debug("nats-server", program=str(program), version=version)
            folder, log_file = settings.data_dir / "nats", settings.data_dir / "logs" / "nats-server.log"
            self._nats = NatsServer(program, folder=folder, log_file=log_file)
            self._children.append(
                Child("nats-server", self._nats.command, stop_seconds=NATS_STOP_SECONDS, may_give_up=False)
            )
            settings = dataclasses.replace(settings, nats_url=self._nats.url)
        env, number = settings.to_env(), self._listener.fileno()
        gateway = python_module("limner.processes.gateway", "--fd", str(number), "--parent", str(os.getpid()))
        self._children.append(Child("gateway", gateway, env=env, keep_open=[number], stop_seconds=GATEWAY_STOP_SECONDS))
        for index in range(1, settings.workers + 1):
            command = python_module("limner.processes.worker", "--parent", str(os.getpid()))
            env_of_one = {**env, "LIMNER_WORKER_ID": f"local-{index}"}
            self._children.append(Child(f"worker {index}", command, env=env_of_one, stop_seconds=WORKER_STOP_SECONDS))

    def _on_signal(self) -> None:
        """The first one drains; a second one ends everything at once."""
        if self._stop.is_set():
            for child in self._children:
                child.kill()
        self._stop.set()

    async def _announce(self) -> None:
        """Says where the server is, as soon as it answers that it is ready."""
        host, port = self._listener.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        while not await _answers_ready(host, port):  # noqa: ASYNC110 - it is another process
            await asyncio.sleep(READY_POLL_SECONDS)
        self._on_ready(f"http://{shown}:{port}", time.monotonic() - self._began)

    async def _shut_down(self) -> None:
        """Workers first: their last reports need the gateway, and both need NATS."""
        workers = [child for child in self._children if child.name.startswith("worker")]
        others = [child for child in self._children if child not in workers]
        await asyncio.gather(*(child.stop() for child in workers))
        for child in reversed(others):
            await child.stop()
        if self._nats is not None:
            self._nats.release()


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
