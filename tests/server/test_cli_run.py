"""`limner run --server`: a workflow through a real server, as any ComfyUI client sends it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.support.tree import Tree, trivial


def run(server: Tree, graph: object, tmp_path: Path, *more: str) -> subprocess.CompletedProcess[str]:
    (tmp_path / "w.json").write_text(json.dumps(graph))
    command = [sys.executable, "-m", "limner.cli.main", "run", str(tmp_path / "w.json"), "--server", server.base]
    return subprocess.run([*command, "--out", str(tmp_path), *more], capture_output=True, text=True, check=False)


def test_results_are_downloaded_and_nothing_is_overwritten(server: Tree, tmp_path: Path) -> None:
    graph = trivial(77, prefix="cli")
    first, second = (run(server, graph, tmp_path, "--set", f"1.color={color}") for color in (1, 1))
    paths = [Path(said.stdout.strip()) for said in (first, second)]
    assert [said.returncode for said in (first, second)] == [0, 0], first.stderr + second.stderr
    assert len(set(paths)) == 2
    for path in paths:
        assert path.read_bytes().startswith(b"\x89PNG")


def test_a_workflow_that_the_server_refuses_is_told(server: Tree, tmp_path: Path) -> None:
    said = run(server, {"1": {"class_type": "NoSuchNode", "inputs": {}}}, tmp_path)
    assert said.returncode == 2
    assert "NoSuchNode" in said.stderr


def test_a_setting_is_checked_against_the_servers_nodes(server: Tree, tmp_path: Path) -> None:
    said = run(server, trivial(1), tmp_path, "--set", "1.colour=5")
    assert said.returncode == 2
    assert "EmptyImage has no input 'colour'; its inputs are width, height, batch_size, color" in said.stderr


def test_a_node_that_fails_on_the_server_is_told(server: Tree, tmp_path: Path) -> None:
    said = run(server, trivial(5, prefix="../out"), tmp_path)
    assert said.returncode == 1
    assert "node 2 (SaveImage) failed" in said.stderr
