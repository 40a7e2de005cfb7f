"""`limner serve --engine comfyui=URL`: needs no torch, is ready without its ComfyUI, and runs jobs on it."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.support.tree import Tree, eventually, free_port, serving, trivial

FORBIDDEN = ("torch", "numpy", "diffusers", "transformers", "safetensors", "accelerate", "regex")


def forbid_libraries(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine without them: whoever imports one fails."""
    folder.mkdir()
    for name in FORBIDDEN:
        (folder / f"{name}.py").write_text(f"raise ImportError('No module named {name!r} here')\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]))


def test_it_is_ready_without_its_comfyui_and_jobs_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forbid_libraries(tmp_path / "forbidden", monkeypatch)
    with serving(tmp_path / "data", "--engine", f"comfyui=http://127.0.0.1:{free_port()}") as tree:
        prompt_id = tree.post(trivial(1))
        eventually(lambda: "did not start" in tree.tail(), seconds=30, what="the supervisor looks for its ComfyUI")
        assert [item[1] for item in tree.get("/queue")["queue_pending"]] == [prompt_id]
        assert set(tree.processes()) == {"serve", "nats", "gateway", "supervisor"}
        for process in (each for group in tree.processes().values() for each in group):
            loaded = [mapped.path for mapped in process.memory_maps()] if psutil.LINUX else []
            assert not [path for path in loaded if "torch" in path], process
        assert tree.stop() == 0


def start_of_instance(data_dir: Path) -> str:
    """Another `limner serve` stands for the ComfyUI: a complete real server."""
    command = [sys.executable, "-m", "limner.cli.main", "serve", "--data-dir", str(data_dir)]
    return f"env -u PYTHONPATH {shlex.join(command)} --port {{port}}"


@contextmanager
def serving_an_instance(tmp_path: Path, *more: str) -> Iterator[Tree]:
    engine = [
        "--engine",
        f"comfyui=http://127.0.0.1:{free_port()}",
        "--start",
        start_of_instance(tmp_path / "instance"),
    ]
    with serving(tmp_path / "data", *engine, *more) as tree:
        yield tree
        assert tree.stop() == 0


def made(tree: Tree, prompt_id: str) -> dict[str, str]:
    """The picture of `trivial`, which is there with its bytes."""
    entry = tree.wait_history([prompt_id])[prompt_id]
    assert entry["status"]["status_str"] == "success", entry["status"]
    [image] = entry["outputs"]["2"]["images"]
    assert tree.http.get("/view", params=image).content.startswith(b"\x89PNG")
    return image


@pytest.mark.slow
def test_a_job_runs_on_a_comfyui_that_limner_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forbid_libraries(tmp_path / "forbidden", monkeypatch)  # the instance does without PYTHONPATH
    with serving_an_instance(tmp_path) as tree:
        image = made(tree, tree.post(trivial(7, prefix="front")))
        [made_there] = (tmp_path / "instance" / "output").glob("*.png")
        shown = tmp_path / "data" / "output" / image["filename"]
        eventually(shown.exists, seconds=10, what="the output is shown as a file")
        assert shown.read_bytes() == made_there.read_bytes()
    assert "Limner is ready" in (tmp_path / "data" / "logs" / "comfyui-1.log").read_text()


@pytest.mark.slow
def test_a_comfyui_that_hangs_is_started_again_and_its_job_runs(tmp_path: Path) -> None:
    with serving_an_instance(tmp_path, "--comfyui-hang", "3") as tree:
        made(tree, tree.post(trivial(1)))
        [engine] = tree.processes()["engine"]
        engine.suspend()  # it answers, and nothing moves
        made(tree, tree.post(trivial(2)))
        assert not engine.is_running()
        assert "asks for its ComfyUI to be started again" in tree.log.read_text()


@pytest.mark.slow
def test_a_comfyui_that_is_killed_is_started_again_and_its_job_runs(tmp_path: Path) -> None:
    with serving_an_instance(tmp_path) as tree:
        made(tree, tree.post(trivial(1)))
        [guard] = [
            each for each in psutil.Process(tree.process.pid).children() if "limner.processes.guard" in each.cmdline()
        ]
        [instance] = guard.children()
        instance.kill()
        made(tree, tree.post(trivial(2)))
