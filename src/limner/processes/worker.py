"""The worker process: one supervisor with its engine. `python -m limner.processes.worker`, settings from LIMNER_*."""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import secrets
import signal
import socket
import sys

from limner import logs
from limner.blobs.objects import ObjectStore
from limner.bus.jetstream import JetStreamBus
from limner.errors import Misconfigured
from limner.processes.loops import exit_code, run_loop
from limner.settings import Settings
from limner.worker.engines.own import OwnEngine, engine_command
from limner.worker.loop import Worker, WorkerConfig
from limner.worker.orphans import watch_parent
from limner.worker.scratch import scratch_folder

log = logs.get("worker")


async def work(settings: Settings) -> None:
    """Serves jobs until SIGTERM or Ctrl-C; the job in hand goes back to the queue."""
    if not settings.nats_url:
        raise Misconfigured("a worker needs LIMNER_NATS_URL: the NATS that its gateways use")
    worker_id = settings.worker_id or _own_id()
    settings.prepare_data_dir()
    with scratch_folder(settings.data_dir / "work", worker_id) as scratch:
        await _serve(
            settings, WorkerConfig(id=worker_id, pool=settings.pool, scratch=scratch, output=settings.output_dir)
        )


async def _serve(settings: Settings, config: WorkerConfig) -> None:
    bus = await JetStreamBus.connect(
        settings.nats_url, name=config.id, inbox_prefix=f"_INBOX.{config.id}", wait_seconds=0.5
    )
    try:
        engine = OwnEngine(engine_command(settings.models))
        worker = Worker(config=config, bus=bus, blobs=ObjectStore(settings.store_url), engine=engine)
        engine.on_info = worker.engine_changed
        loop = asyncio.get_running_loop()
        tasks: set[asyncio.Task[None]] = set()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, lambda: tasks.add(loop.create_task(worker.drain())))
        await worker.run()
    finally:
        await bus.close()


def run(settings: Settings) -> None:
    """Works until it is told to stop. Raises Misconfigured where a setting is missing or wrong."""
    logs.setup(settings.log_format, settings.log_level)
    run_loop(work(settings))


def main() -> int:
    parser = argparse.ArgumentParser(prog="limner.processes.worker")
    parser.add_argument("--parent", type=int, help="end when this process is no longer our parent")
    parent = parser.parse_args().parent
    if parent is not None:
        watch_parent(parent)
    return exit_code(lambda: run(Settings.from_env()), name="worker")


def _own_id() -> str:
    """Names the machine, and differs for every start."""
    host = re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname())[:40]
    return f"{host}-{os.getpid()}-{secrets.token_hex(2)}"


if __name__ == "__main__":
    sys.exit(main())
