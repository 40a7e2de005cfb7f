"""kill -9 of each process while 20 jobs wait and one runs: every accepted job ends once, with its result."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.support.tree import Tree, eventually, serving, trivial, txt2img

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

LONG = 400  # sampler steps of the job that runs while something is killed: seconds, not milliseconds


def load(tree: Tree) -> list[str]:
    """One long job that is running, and 20 behind it."""
    ids = [tree.post(txt2img(steps=LONG), client_id="faults")]
    ids += [tree.post(trivial(n, prefix="fault"), client_id="faults") for n in range(20)]

    def running() -> bool:
        queue = tree.get("/queue")
        return bool(queue and [item[1] for item in queue["queue_running"]] == ids[:1])

    eventually(running, seconds=90, what="the long job runs")
    return ids


def check(tree: Tree, ids: list[str]) -> None:
    """Each job ended exactly once with its bytes, under a name of its own; nothing is left over."""
    history = tree.wait_history(ids, seconds=200)
    assert sorted(history) == sorted(ids)
    names: list[str] = []
    for position, prompt_id in enumerate(ids):
        entry = history[prompt_id]
        assert entry["status"]["status_str"] == "success", entry["status"]
        assert [m[0] for m in entry["status"]["messages"]].count("execution_success") == 1
        [image] = entry["outputs"]["9" if position == 0 else "2"]["images"]
        names.append(image["filename"])
        picture = tree.http.get("/view", params=image)
        assert picture.status_code == 200
        assert picture.content.startswith(b"\x89PNG")
        file = tree.data_dir / "output" / image["subfolder"] / image["filename"]
        eventually(file.exists, seconds=10, what=f"{file} is shown")  # placed once the end was accepted
        assert hashlib.sha256(file.read_bytes()).digest() == hashlib.sha256(picture.content).digest()
    assert len(set(names)) == len(names), "a file name was given twice"
    queue: dict[str, Any] = tree.get("/queue")
    assert queue == {"queue_running": [], "queue_pending": []}


@pytest.mark.parametrize("role", ["engine", "supervisor", "nats", "gateway"])
def test_nothing_is_lost_when_a_process_is_killed(tmp_path: Path, role: str) -> None:
    with serving(tmp_path / "data") as tree:
        ids = load(tree)
        tree.kill(role)
        check(tree, ids)


def test_nothing_is_lost_when_the_whole_tree_is_killed(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as tree:
        ids = load(tree)
        tree.kill_everything()
        tree.start()
        check(tree, ids)


def test_an_interrupted_server_puts_its_job_back_and_runs_it_at_the_next_start(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as tree:
        ids = load(tree)
        assert tree.stop() == 0
        tree.start()
        check(tree, ids)


def test_nothing_is_lost_when_the_nats_folder_is_deleted_between_two_starts(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as tree:
        ids = load(tree)
        assert tree.stop() == 0
        shutil.rmtree(tree.data_dir / "nats")
        tree.start()
        check(tree, ids)
