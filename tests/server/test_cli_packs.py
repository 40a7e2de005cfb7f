"""Custom nodes on the command line: one run without a server, and what the doctor says of packs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

DATA = Path(__file__).parents[1] / "data"
WORKFLOW = {
    "1": {"class_type": "ApExpand", "inputs": {"size": 16}},
    "2": {"class_type": "CpSave", "inputs": {"images": ["1", 0], "filename_prefix": "made/x"}},
}


def limner(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "limner.cli.main", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)


def test_a_workflow_with_a_pack_s_nodes_runs_without_a_server(tmp_path: Path) -> None:
    (tmp_path / "workflow.json").write_text(json.dumps(WORKFLOW))
    out = tmp_path / "out"
    workflow, packs = str(tmp_path / "workflow.json"), str(DATA / "packs")
    done = limner("run", workflow, "--custom-nodes", packs, "--out", str(out), "--set", "1.size=8")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(out / "made" / "x_more_00001_.png")]
    assert (out / "made" / "x_more_00001_.png").stat().st_size > 0


def test_without_the_option_a_pack_s_nodes_do_not_exist(tmp_path: Path) -> None:
    (tmp_path / "workflow.json").write_text(json.dumps(WORKFLOW))
    done = limner("run", str(tmp_path / "workflow.json"), "--out", str(tmp_path / "out"))
    assert done.returncode == 2
    assert "ApExpand" in done.stderr


def test_the_doctor_tells_what_each_bad_pack_lacks(tmp_path: Path) -> None:
    done = limner("doctor", "--data-dir", str(tmp_path / "data"), "--custom-nodes", str(DATA / "bad_packs"))
    assert done.returncode == 1
    [line] = [line for line in done.stdout.splitlines() if "custom nodes" in line]
    assert line.startswith("WRONG")
    assert "needs_member: it needs comfy.utils.something_of_tomorrow, which Limner does not offer" in line
    assert "partly: no node PartlyBad: TypeError: FUNCTION names no method" in line
