"""A whole `limner serve` process tree, as a user starts it, for tests and benchmarks."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx
import psutil

T = TypeVar("T")

ROLES = {
    "nats": lambda p: p.name().startswith("nats-server"),
    "gateway": lambda p: "limner.processes.gateway" in p.cmdline(),
    "supervisor": lambda p: "limner.processes.worker" in p.cmdline(),
    "engine": lambda p: "limner.processes.engine" in p.cmdline(),
}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def eventually(look: Callable[[], T | None], *, seconds: float, what: str) -> T:
    """The first true answer of `look`, asked for again and again until the deadline."""
    deadline = time.monotonic() + seconds
    while True:
        if found := look():
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:.0f} s: {what}")
        time.sleep(0.02)


class Tree:
    """One running `limner serve` on its own port and data directory."""

    def __init__(self, data_dir: Path, *extra: str, port: int | None = None) -> None:
        self.data_dir = data_dir
        self.port = port or free_port()
        self.base = f"http://127.0.0.1:{self.port}"
        self.extra = extra
        self.log = data_dir.parent / f"{data_dir.name}.log"
        self.http = httpx.Client(base_url=self.base, timeout=30)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *, ready: bool = True) -> None:
        command = [sys.executable, "-m", "limner.cli.main", "serve"]
        command += ["--port", str(self.port), "--data-dir", str(self.data_dir), *self.extra]
        with self.log.open("ab") as sink:
            self.process = subprocess.Popen(
                command, stdout=sink, stderr=subprocess.STDOUT, env=os.environ | {"LIMNER_LOG_FORMAT": "json"}
            )
        if ready:
            self.wait_ready()

    def wait_ready(self, seconds: float = 60) -> None:
        def look() -> bool:
            assert self.process is not None
            assert self.process.poll() is None, f"limner serve ended: {self.tail()}"
            try:
                return self.http.get("/readyz").status_code == 200
            except httpx.TransportError:
                return False

        eventually(look, seconds=seconds, what=f"GET /readyz answers 200; log: {self.tail()}")

    def tail(self, characters: int = 3000) -> str:
        return self.log.read_text(errors="replace")[-characters:] if self.log.exists() else ""

    def processes(self) -> dict[str, list[psutil.Process]]:
        """The living processes of the tree by role. `serve` is the parent of all."""
        assert self.process is not None
        parent = psutil.Process(self.process.pid)
        found: dict[str, list[psutil.Process]] = {"serve": [parent]}
        for child in parent.children(recursive=True):
            for role, matches in ROLES.items():
                try:
                    if matches(child):
                        found.setdefault(role, []).append(child)
                except psutil.Error:
                    continue
        return found

    def kill(self, role: str) -> None:
        """kill -9 of every process of that role, and nothing else."""
        victims = eventually(lambda: self.processes().get(role), seconds=30, what=f"a {role} process to kill")
        for victim in victims:
            victim.kill()
        psutil.wait_procs(victims, timeout=10)

    def kill_everything(self) -> None:
        """kill -9 of the parent alone; the rest must end by itself."""
        family = [p for group in self.processes().values() for p in group]
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)
        _, alive = psutil.wait_procs(family, timeout=15)
        assert not alive, f"outlived their parent: {alive}"

    def stop(self, seconds: float = 40) -> int:
        """Ctrl-C; gives the exit code."""
        assert self.process is not None
        family = [p for group in self.processes().values() for p in group] if self.process.poll() is None else []
        self.process.send_signal(signal.SIGINT)
        code = self.process.wait(seconds)
        _, alive = psutil.wait_procs(family, timeout=10)
        assert not alive, f"still there after Ctrl-C: {alive}"
        return code

    def post(self, workflow: dict[str, Any], **members: Any) -> str:
        """Sends a prompt; gives its id. Asks again while the gateway is being restarted, with the same id."""

        def look() -> str | None:
            try:
                answer = self.http.post("/prompt", json={"prompt": workflow, **members})
            except httpx.TransportError:
                return None
            assert answer.status_code == 200, answer.text
            return str(answer.json()["prompt_id"])

        return eventually(look, seconds=60, what="POST /prompt is answered")

    def get(self, path: str) -> Any:
        """JSON of a path; None while nobody answers."""
        try:
            answer = self.http.get(path)
        except httpx.TransportError:
            return None
        return answer.json() if answer.status_code == 200 else None

    def wait_history(self, ids: list[str], seconds: float = 90) -> dict[str, Any]:
        """History entries of all these prompts, once each is there."""

        def look() -> dict[str, Any] | None:
            history = self.get("/history")
            return history if history is not None and all(i in history for i in ids) else None

        try:
            return eventually(look, seconds=seconds, what="every prompt is in history")
        except AssertionError:
            missing = [i for i in ids if i not in (self.get("/history") or {})]
            raise AssertionError(
                f"{len(missing)} of {len(ids)} never ended: {missing[:3]}; log: {self.tail()}"
            ) from None


@contextmanager
def serving(data_dir: Path, *extra: str) -> Iterator[Tree]:
    """A started tree that is stopped, or killed where that fails, at the end."""
    tree = Tree(data_dir, *extra)
    tree.start()
    try:
        yield tree
    finally:
        if tree.process is not None and tree.process.poll() is None:
            try:
                tree.stop()
            except (subprocess.TimeoutExpired, AssertionError):
                for group in tree.processes().values():
                    for process in group:
                        process.kill()
                raise
        tree.http.close()


def trivial(value: int, *, prefix: str | None = None) -> dict[str, Any]:
    """EmptyImage into PreviewImage (or SaveImage under `prefix`): a graph that costs nothing."""
    graph: dict[str, Any] = {
        "1": {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8, "batch_size": 1, "color": value}}
    }
    if prefix is None:
        graph["2"] = {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}}
    else:
        graph["2"] = {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": prefix}}
    return graph


def txt2img(**inputs: Any) -> dict[str, Any]:
    """The classic seven-node workflow on the built-in model, with KSampler's inputs changed by `inputs`."""
    path = Path(__file__).parents[2] / "examples" / "txt2img.json"
    graph: dict[str, Any] = json.loads(path.read_text())
    graph["3"]["inputs"] |= inputs
    return graph
