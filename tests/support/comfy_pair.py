"""Two instances, and a Limner in front of them: whole process trees, as somebody with two GPUs runs them.

An instance is a `limner serve` with its own engine: a complete server of ComfyUI's protocol in a process of its own.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import psutil

from tests.support.tree import Tree, eventually


class Instance(Tree):
    """One `limner serve` in the part of a ComfyUI."""

    def attempts(self) -> Counter[str]:
        """How often each prompt was run here, by the id that it was submitted under."""
        with closing(sqlite3.connect(f"file:{self.data_dir / 'db.sqlite'}?mode=ro", uri=True)) as db:
            statement = "select prompt_id from jobs join attempts on attempts.job = jobs.seq"
            return Counter(prompt_id for (prompt_id,) in db.execute(statement))

    def running(self) -> list[str]:
        """The ids of the prompts that run here now."""
        return [item[1] for item in (self.get("/queue") or {"queue_running": []})["queue_running"]]

    def again(self) -> None:
        """Starts it if it does not run."""
        if self.process is None or self.process.poll() is not None:
            self.start()


class Front(Tree):
    """`limner serve` over such instances."""

    def __init__(self, data_dir: Path, urls: list[str], *extra: str) -> None:
        super().__init__(data_dir, *(word for url in urls for word in ("--engine", f"comfyui={url}")), *extra)

    def supervisor_of(self, instance: Tree) -> psutil.Process:
        """The supervisor process that drives that instance."""

        def look() -> psutil.Process | None:
            for process in self.processes().get("supervisor", []):
                if str(instance.port) in " ".join([*process.cmdline(), *process.environ().values()]):
                    return process
            return None

        return eventually(look, seconds=30, what=f"a supervisor of {instance.base}")

    def jobs(self) -> dict[str, str]:
        """The job's own id for each prompt id: what an instance knows it by."""
        with closing(sqlite3.connect(f"file:{self.data_dir / 'db.sqlite'}?mode=ro", uri=True)) as db:
            return dict(db.execute("select prompt_id, id from jobs").fetchall())

    def workers(self) -> dict[str, str]:
        """The worker that last had each prompt."""
        with closing(sqlite3.connect(f"file:{self.data_dir / 'db.sqlite'}?mode=ro", uri=True)) as db:
            return dict(db.execute("select prompt_id, worker from jobs").fetchall())


@contextmanager
def instances(folder: Path) -> Iterator[tuple[Instance, Instance]]:
    """Two started instances, side by side."""
    with ExitStack() as stack:
        pair = Instance(folder / "a"), Instance(folder / "b")
        for each in pair:
            each.start(ready=False)
            stack.callback(_end, each)
        for each in pair:
            each.wait_ready(120)
        yield pair


@contextmanager
def fronting(data_dir: Path, urls: list[str], *extra: str) -> Iterator[Front]:
    """A started front whose workers are all there."""
    front = Front(data_dir, urls, *extra)
    with serving_tree(front):
        yield front


@contextmanager
def serving_tree(tree: Tree) -> Iterator[None]:
    tree.start()
    try:
        yield
    finally:
        _end(tree)


def _end(tree: Tree) -> None:
    try:
        if tree.process is not None and tree.process.poll() is None:
            tree.stop()
    finally:
        tree.http.close()


def direct(instance: Tree, graph: dict[str, Any]) -> dict[str, bytes]:
    """The files that this graph makes when it is sent to the instance itself, run anew."""
    instance.http.post("/free", json={"free_memory": True, "unload_models": False})
    prompt_id = instance.post(graph)
    return files(instance, instance.wait_history([prompt_id])[prompt_id])


def files(tree: Tree, entry: dict[str, Any]) -> dict[str, bytes]:
    """The bytes of every file of a history entry, by node and place."""
    found = {}
    for node, ui in entry["outputs"].items():
        for position, image in enumerate(ui.get("images", [])):
            answer = tree.http.get("/view", params=image)
            assert answer.status_code == 200, (image, answer.status_code)
            found[f"{node}.{position}"] = answer.content
    return found
