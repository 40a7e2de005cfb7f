"""`limner serve --engine comfyui=URL`: needs no torch, is ready without its ComfyUI, and runs jobs on it."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

import psutil
import pytest

from tests.support.tree import Tree, eventually, free_port, serving, trivial

FORBIDDEN = ("torch", "numpy", "diffusers", "transformers", "safetensors", "accelerate")


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


@pytest.mark.slow
def test_a_job_runs_on_a_comfyui_that_limner_starts(tmp_path: Path) -> None:
    """Another `limner serve` stands for the ComfyUI: a complete real server."""
    port = free_port()
    command = [sys.executable, "-m", "limner.cli.main", "serve", "--data-dir", str(tmp_path / "instance")]
    start = f"{shlex.join(command)} --port {{port}}"
    with serving(tmp_path / "data", "--engine", f"comfyui=http://127.0.0.1:{port}", "--start", start) as tree:
        prompt_id = tree.post(trivial(7, prefix="front"))
        entry = tree.wait_history([prompt_id])[prompt_id]
        assert entry["status"]["status_str"] == "success", entry["status"]
        [image] = entry["outputs"]["2"]["images"]
        behind = Tree(tmp_path / "instance", port=port)
        assert prompt_id in behind.get("/history") or behind.get("/history") == {}
        ours = tree.http.get("/view", params=image)
        assert ours.content.startswith(b"\x89PNG")
        assert (tmp_path / "data" / "output" / image["filename"]).exists()
        assert tree.stop() == 0
    assert "Limner is ready" in (tmp_path / "data" / "logs" / "comfyui-1.log").read_text()
