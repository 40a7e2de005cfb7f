"""The gateway process: API, releaser and sweep. `python -m limner.processes.gateway`, settings from LIMNER_*."""

from __future__ import annotations

import argparse
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from types import FrameType

import uvicorn

from limner import logs
from limner.blobs.objects import ObjectStore
from limner.bus.jetstream import JetStreamBus
from limner.db.session import Database
from limner.dispatch.dispatcher import Dispatcher
from limner.errors import Misconfigured
from limner.gateway.app import create_app
from limner.gateway.deps import DEFAULT_TENANT, Services
from limner.processes.listening import listen
from limner.processes.loops import exit_code, run_loop
from limner.services.attempts import Attempts
from limner.services.catalogues import Catalogues
from limner.services.files import FileStore
from limner.services.jobs import Jobs
from limner.services.presence import Presence
from limner.services.release import Release
from limner.settings import Settings
from limner.worker.orphans import watch_parent
from limner.worker.readable import folder_of, largest_number

GRACE_SECONDS = 3
WEBSOCKET_BYTES = 2**20  # clients send little on a socket: feature flags
NATS_SECONDS = 0.5  # one that is up is there at once; for one that is not, nobody waits


async def answer(settings: Settings, listener: socket.socket) -> None:
    """Serves the API on a listening socket until SIGTERM or Ctrl-C."""
    async with services_of(settings) as services:
        config = uvicorn.Config(
            create_app(services),
            log_config=None,
            access_log=False,
            server_header=False,
            ws_max_size=WEBSOCKET_BYTES,
            ws_max_queue=4,
            ws_per_message_deflate=False,  # small frames, mostly over loopback: it costs more than it saves
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
        # uvicorn raises the signal again once it has stopped: it must not end us before our own clean-up
        signal.signal(signal.SIGTERM, lambda *_: None)
        await _Server(config, services).serve(sockets=[listener])


class _Server(uvicorn.Server):
    """Says on connections that are still open that it is going, so that nobody sends more over them."""

    def __init__(self, config: uvicorn.Config, services: Services) -> None:
        super().__init__(config)
        self._services = services

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._services.draining.set()
        super().handle_exit(sig, frame)


@asynccontextmanager
async def services_of(settings: Settings) -> AsyncIterator[Services]:
    """Everything behind the routes, running. NATS need not be up: it is used from when it is."""
    database = await Database.open(settings.database_url)
    bus = await JetStreamBus.connect(settings.nats_url, name="gateway", wait_seconds=NATS_SECONDS)
    blobs, presence = ObjectStore(settings.store_url), Presence()
    release, catalogues = Release(database, bus, pool=settings.pool), Catalogues(database, bus, blobs)
    attempts = Attempts(database, bus, release, presence, existing_number=_existing_number(settings.output_dir))
    dispatcher = Dispatcher(database, bus, release, attempts, catalogues, blobs=blobs)
    try:
        await dispatcher.start()
        yield Services(
            jobs=Jobs(database, bus, release),
            files=FileStore(database, blobs),
            catalogues=catalogues,
            presence=presence,
            bus=bus,
            blobs=blobs,
            pool=settings.pool,
            custom_node_routes=settings.custom_node_routes,
            max_upload_bytes=settings.max_upload_bytes,
        )
    finally:
        await dispatcher.stop()
        await release.stop()
        await bus.close()
        await database.close()


def run(settings: Settings, listener: socket.socket | None = None) -> None:
    """Serves until it is told to stop, on `listener` or on a socket of its own. Raises Misconfigured."""
    if not settings.nats_url:
        raise Misconfigured("a gateway needs LIMNER_NATS_URL: the NATS that its workers use")
    settings.check_exposure()
    settings.prepare_data_dir()
    logs.setup(settings.log_format, settings.log_level)
    with listener or listen(settings.host, settings.port) as ready:
        run_loop(answer(settings, ready))


def main() -> int:
    parser = argparse.ArgumentParser(prog="limner.processes.gateway")
    parser.add_argument("--fd", type=int, help="an inherited socket that listens already")
    parser.add_argument("--parent", type=int, help="end when this process is no longer our parent")
    arguments = parser.parse_args()
    if arguments.parent is not None:
        watch_parent(arguments.parent)
    listener = socket.socket(fileno=arguments.fd) if arguments.fd is not None else None
    return exit_code(lambda: run(Settings.from_env(), listener), name="gateway")


def _existing_number(output: Path | None) -> Callable[[str, str], int] | None:
    """Numbers of files that lie in the readable folder already, from an earlier life or another program."""
    if output is None:
        return None
    return partial(_largest, output)


def _largest(output: Path, subfolder: str, prefix: str) -> int:
    return largest_number(folder_of(output, DEFAULT_TENANT, subfolder), prefix)


if __name__ == "__main__":
    sys.exit(main())
