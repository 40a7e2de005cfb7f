"""What `limner serve` says when it cannot start: one clear line, exit code 2, nothing left behind."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.tree import Tree, free_port


def serve(*arguments: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "limner.cli.main", "serve", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stderr


def one_clear_line(stderr: str, *words: str) -> None:
    assert "Traceback" not in stderr
    assert len(stderr.strip().splitlines()) == 1, stderr
    for word in words:
        assert word in stderr, stderr


def test_a_second_server_on_the_same_data_directory_is_refused(server: Tree) -> None:
    code, stderr = serve("--data-dir", str(server.data_dir), "--port", str(free_port()))
    assert code == 2
    one_clear_line(stderr, str(server.data_dir))
    assert server.get("/readyz") is not None


def test_a_port_in_use_is_told(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, stderr = serve("--data-dir", str(tmp_path / "data"), "--port", str(port))
    assert code == 2
    one_clear_line(stderr, str(port))


def test_a_data_directory_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    code, stderr = serve("--data-dir", str(tmp_path / "file" / "data"), "--port", str(free_port()))
    assert code == 2
    one_clear_line(stderr, str(tmp_path / "file"))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5"])
def test_a_host_that_others_can_reach_is_refused_while_there_are_no_keys(tmp_path: Path, host: str) -> None:
    code, stderr = serve("--data-dir", str(tmp_path / "data"), "--host", host, "--port", str(free_port()))
    assert code == 2
    one_clear_line(stderr, host)
