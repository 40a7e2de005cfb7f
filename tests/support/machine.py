"""`limner worker` as a user starts it, and the programs below it, for tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Set
from contextlib import contextmanager
from pathlib import Path

import psutil

from tests.support.tree import eventually

TOY = """\
import http.server, sys
class Toy(http.server.BaseHTTPRequestHandler):
    def do_GET(self): self.send_error(500)
    do_POST = do_GET
    def log_message(self, *_): pass
print("a toy listens on", sys.argv[1], flush=True)
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Toy).serve_forever()
"""
"""Stands where a ComfyUI's `main.py` would, and is of no use beyond that: it answers nothing but errors."""


class Machine:
    """One `limner worker` over a data directory of its own."""

    def __init__(self, data_dir: Path, *arguments: str, env: Mapping[str, str]) -> None:
        self.data_dir = data_dir
        self.log = data_dir.parent / f"{data_dir.name}.log"
        command = [sys.executable, "-m", "limner.cli.main", "worker", "--data-dir", str(data_dir), *arguments]
        with self.log.open("ab") as sink:
            self.process = subprocess.Popen(
                command, stdout=sink, stderr=subprocess.STDOUT, env=os.environ | {"LIMNER_LOG_FORMAT": "json"} | env
            )

    def family(self) -> list[psutil.Process]:
        parent = psutil.Process(self.process.pid)
        return [parent, *parent.children(recursive=True)]

    def pids(self, *words: str) -> set[int]:
        """The processes below it whose command line has all these words."""
        found = set()
        for process in self.family()[1:]:
            try:
                line = " ".join(process.cmdline())
            except psutil.Error:
                continue
            forked = "limner.cli.main" in line  # a child that has not become its program yet
            if all(word in line for word in words) and not forked:
                found.add(process.pid)
        return found

    def some(self, number: int, *words: str, other_than: Set[int] = frozenset()) -> set[int]:
        """So many of them, once they are there."""

        def look() -> set[int] | None:
            assert self.process.poll() is None, f"it ended with {self.process.returncode}: {self.told()}"
            found = self.pids(*words) - other_than
            return found if len(found) == number else None

        return eventually(look, seconds=40, what=f"{number} processes with {words}; log: {self.told()}")

    def told(self) -> str:
        return self.log.read_text(errors="replace")[-3000:]

    def end(self, number: signal.Signals) -> int:
        """Sends it a signal, and sees all of its family gone. Gives the exit code."""
        family = self.family()
        self.process.send_signal(number)
        code = self.process.wait(40)
        _, left = psutil.wait_procs(family, timeout=15)
        assert not left, f"outlived their parent: {left}"
        return code


@contextmanager
def machine(data_dir: Path, *arguments: str, **env: str) -> Iterator[Machine]:
    """A started one, ended with the test."""
    made = Machine(data_dir, *arguments, env=env)
    try:
        yield made
    finally:
        if made.process.poll() is None:
            made.end(signal.SIGKILL)
