"""A supervisor for each engine of this machine, and the ComfyUIs that are to be started for them."""

from __future__ import annotations

import dataclasses
import os
import socket
import time
from collections.abc import Sequence

from limner.errors import Misconfigured
from limner.processes.children import Child, python_module
from limner.processes.engines import Chosen
from limner.processes.instance import Instance
from limner.processes.logfile import LogFile
from limner.settings import Settings
from limner.worker.engines.comfyui.address import Address

SUPERVISOR_STOP_SECONDS = 20.0
PATIENCE_SECONDS = 5.0  # a ComfyUI of the last start may take a moment to be gone
POLL_SECONDS = 0.1


class Fleet:
    """Not started yet: the parent starts and stops `supervisors` and `instances` in its own order.

    Raises Misconfigured where somebody listens at the address of a ComfyUI that is to be started.
    """

    def __init__(self, engines: Sequence[Chosen], settings: Settings) -> None:
        self.supervisors: list[Child] = []
        self.instances: list[Instance] = []
        for engine in engines:
            if engine.start:
                _check_free(engine)
        for number, engine in enumerate(engines, 1):
            instance = self._instance(engine, settings) if engine.start else None
            self.supervisors.append(_supervisor(number, engine, settings, instance))

    def retire(self) -> None:
        """For when all is about to stop: a ComfyUI that ends then need not come back.

        A service manager may tell every process to end at once, and the supervisors are still to be waited for.
        """
        for instance in self.instances:
            instance.retire()

    def _instance(self, engine: Chosen, settings: Settings) -> Instance:
        number = len(self.instances) + 1
        log_file = LogFile(settings.data_dir / "logs" / f"comfyui-{number}.log")
        self.instances.append(Instance(f"comfyui {number}", engine.start, log_file=log_file))
        return self.instances[-1]


def _supervisor(number: int, engine: Chosen, settings: Settings, instance: Instance | None) -> Child:
    """Each gets the settings of its one engine."""
    one = dataclasses.replace(settings, engines=(engine.text,), starts=(), workers=1, worker_id=engine.worker_id)
    command, keep_open = python_module("limner.processes.worker", "--parent", str(os.getpid())), []
    if instance is not None:
        command += ["--restart-fd", str(instance.restart_fd)]
        keep_open.append(instance.restart_fd)
    return Child(
        f"worker {number}",
        command,
        env={**os.environ, **one.to_env()},
        keep_open=keep_open,
        stop_seconds=SUPERVISOR_STOP_SECONDS,
    )


def _check_free(engine: Chosen) -> None:
    assert engine.address is not None
    deadline = time.monotonic() + PATIENCE_SECONDS
    while _listens(engine.address):
        if time.monotonic() > deadline:
            raise Misconfigured(
                f"--start is to start a ComfyUI, but something listens on {engine.address.shown} already: leave "
                "--start away to drive that one, or use another port"
            )
        time.sleep(POLL_SECONDS)


def _listens(address: Address) -> bool:
    try:
        socket.create_connection((address.host, address.port), timeout=1.0).close()
    except OSError:
        return False
    return True
