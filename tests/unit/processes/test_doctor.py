"""What the doctor says of a ComfyUI, and what he does not ask for on a machine that has nothing else."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from limner.processes.doctor import Finding, examine
from limner.settings import Settings
from tests.support.replayer.server import Replayer
from tests.support.tree import free_port


async def findings(tmp_path: Path, *engines: str, **given: Any) -> dict[str, Finding]:
    settings = Settings.from_env({}, data_dir=tmp_path, engines=engines, **given)
    found = await asyncio.to_thread(lambda: list(examine(settings)))
    return {finding.what: finding for finding in found}


async def test_a_comfyui_that_answers_is_described(tmp_path: Path) -> None:
    async with Replayer() as comfyui:
        found = (await findings(tmp_path, f"comfyui={comfyui.url}"))[f"ComfyUI {comfyui.url}"]
    assert found.ok
    assert found.text.startswith("version 0.3.64, ")
    assert found.text.endswith(" nodes, 0 prompts running, 0 waiting")


async def test_one_that_does_not_answer_is_wrong_unless_limner_starts_it(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    found = (await findings(tmp_path, f"comfyui={url}"))[f"ComfyUI {url}"]
    assert not found.ok
    assert url in found.text
    started = await findings(tmp_path, f"comfyui={url}", starts=(sys.executable,))
    assert started[f"ComfyUI {url}"].ok
    assert "--start starts it" in started[f"ComfyUI {url}"].text


async def test_beside_a_comfyui_only_limner_needs_no_torch(tmp_path: Path) -> None:
    found = await findings(tmp_path, f"comfyui=http://127.0.0.1:{free_port()}")
    assert "torch" not in found["libraries"].text
    assert not {"devices", "model folders", "engine: a tiny workflow"} & found.keys()


def test_without_torch_the_doctor_is_well_where_a_comfyui_is_started(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('No module named torch here')\n")
    engine = ["--engine", f"comfyui=http://127.0.0.1:{free_port()}", "--start", sys.executable]
    command = [sys.executable, "-m", "limner.cli.main", "doctor", "--data-dir", str(tmp_path / "data"), *engine]
    said = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(tmp_path)})
    assert said.returncode == 0, said.stdout + said.stderr
