"""The worker process: one supervisor with its engine, or the parent of several.

`python -m limner.processes.worker`, settings from LIMNER_*.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import os
import re
import secrets
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from limner import logs
from limner.blobs.objects import ObjectStore
from limner.bus.jetstream import JetStreamBus
from limner.bus.port import Bus
from limner.enginehost.protocol import EngineInfo
from limner.errors import Misconfigured
from limner.processes.engines import Chosen, check_own, engines_of_worker
from limner.processes.family import Family, Member
from limner.processes.fleet import Fleet
from limner.processes.loops import exit_code, run_loop
from limner.processes.model_options import model_options
from limner.settings import Settings
from limner.worker.engines.own import OwnEngine, engine_command
from limner.worker.engines.port import Engine
from limner.worker.loop import Worker, WorkerConfig
from limner.worker.orphans import watch_parent
from limner.worker.scratch import scratch_folder

log = logs.get("worker")


async def work(settings: Settings, engine: Chosen, *, restart_fd: int | None = None) -> None:
    """Serves jobs until SIGTERM or Ctrl-C; the job in hand goes back to the queue."""
    worker_id = engine.worker_id or _own_id()
    logs.bind(worker=worker_id)  # several workers may write to one log
    settings.prepare_data_dir()
    with scratch_folder(settings.data_dir / "work", worker_id) as scratch:
        config = WorkerConfig(
            id=worker_id,
            pool=settings.pool,
            scratch=scratch,
            output=settings.output_dir,
            custom_node_routes=settings.custom_node_routes,
        )
        bus = await JetStreamBus.connect(
            settings.nats_url, name=config.id, inbox_prefix=f"_INBOX.{config.id}", wait_seconds=0.5
        )
        try:
            await _serve(settings, config, bus, ask_by(restart_fd), engine)
        finally:
            await bus.close()


async def _serve(
    settings: Settings, config: WorkerConfig, bus: Bus, ask_restart: Callable[[], None] | None, chosen: Chosen
) -> None:
    def on_info(info: EngineInfo) -> None:
        worker.engine_changed(info)

    engine = engine_of(chosen, settings, config.id, on_info, ask_restart, work=config.scratch / "packs")
    worker = Worker(config=config, bus=bus, blobs=ObjectStore(settings.store_url), engine=engine)
    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Task[None]] = set()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, lambda: tasks.add(loop.create_task(worker.drain())))
    await worker.run()


def engine_of(
    chosen: Chosen,
    settings: Settings,
    worker_id: str,
    on_info: Callable[[EngineInfo], None],
    ask_restart: Callable[[], None] | None,
    *,
    work: Path,
) -> Engine:
    """The adapter of a chosen engine, set as the settings say. `work`: a folder in which custom nodes work."""
    if chosen.address is None:
        command = engine_command(
            settings.models,
            custom_nodes=settings.custom_nodes,
            work=work,
            custom_node_routes=settings.custom_node_routes,
            cache=settings.cache,
            options=model_options(settings),
        )
        return OwnEngine(command, on_info=on_info)
    from limner.worker.engines.comfyui.adapter import ComfyConfig, ComfyEngine

    config = ComfyConfig(
        worker=worker_id,
        deployment=hashlib.sha256(settings.store_url.encode()).hexdigest()[:12],  # no two have one store
        hang_seconds=settings.comfyui_hang_seconds,
        free_after_seconds=settings.comfyui_free_seconds,
        keep_temp=settings.comfyui_temp,
    )
    return ComfyEngine(chosen.address, config, on_info=on_info, ask_restart=ask_restart)


def ask_by(restart_fd: int | None) -> Callable[[], None] | None:
    """How the parent is asked to start our ComfyUI again; None where it is not the parent's."""
    if restart_fd is None:
        return None
    os.set_blocking(restart_fd, False)

    def ask() -> None:
        with contextlib.suppress(BlockingIOError):  # the pipe is full of the same question
            os.write(restart_fd, b"r")

    return ask


def run(settings: Settings, *, restart_fd: int | None = None) -> int:
    """Works until it is told to stop; gives the exit code. Raises Misconfigured where a setting is missing or wrong.

    One engine that somebody else starts is served by this process; else there is a child for each.
    """
    if not settings.nats_url:
        raise Misconfigured("a worker needs LIMNER_NATS_URL: the NATS that its gateways use")
    engines = engines_of_worker(settings)
    check_own(engines)
    logs.setup(settings.log_format, settings.log_level)
    if len(engines) == 1 and not engines[0].start:
        run_loop(work(settings, engines[0], restart_fd=restart_fd))
        return 0
    settings.prepare_data_dir()
    return asyncio.run(_run_fleet(engines, settings))


async def _run_fleet(engines: Sequence[Chosen], settings: Settings) -> int:
    fleet = Fleet(engines, settings)

    async def start() -> None:
        members: list[Member] = [*fleet.instances, *fleet.supervisors]
        for member in members:
            member.start()

    return await Family(fleet.supervisors, fleet.instances, on_stop=fleet.retire).run(start())


def main() -> int:
    parser = argparse.ArgumentParser(prog="limner.processes.worker")
    parser.add_argument("--parent", type=int, help="end when this process is no longer our parent")
    parser.add_argument("--restart-fd", type=int, help="the parent starts our ComfyUI again for a byte that comes here")
    arguments = parser.parse_args()
    if arguments.parent is not None:
        watch_parent(arguments.parent)
    return exit_code(lambda: run(Settings.from_env(), restart_fd=arguments.restart_fd), name="worker")


def _own_id() -> str:
    """Names the machine, and differs for every start."""
    host = re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname())[:40]
    return f"{host}-{os.getpid()}-{secrets.token_hex(2)}"


if __name__ == "__main__":
    sys.exit(main())
