"""A worker's scratch folder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from limner.errors import Misconfigured
from limner.worker import scratch
from limner.worker.scratch import scratch_folder

HOLD = """
import sys
from pathlib import Path
from limner.worker.scratch import scratch_folder
with scratch_folder(Path(sys.argv[1]), "other") as folder:
    (folder / "picture").touch()
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_folder_is_empty_at_first_and_gone_in_the_end(tmp_path: Path) -> None:
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "left").touch()
    with scratch_folder(tmp_path, "w") as folder:
        assert folder == tmp_path / "w"
        assert [path.name for path in folder.iterdir()] == [scratch.LOCK]
    assert not folder.exists()


def test_what_killed_workers_left_goes_and_what_living_ones_hold_stays(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        with scratch_folder(tmp_path, "w"):
            assert (tmp_path / "other" / "picture").exists()
        other.kill()
    assert (tmp_path / "other" / "picture").exists()
    with scratch_folder(tmp_path, "w"):
        assert not (tmp_path / "other").exists()


def test_two_workers_of_one_name_are_a_mistake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scratch, "PATIENCE_SECONDS", 0.0)
    with (
        scratch_folder(tmp_path, "w"),
        pytest.raises(Misconfigured, match="runs as 'w'"),
        scratch_folder(tmp_path, "w"),
    ):
        pass
