"""`limner serve` before its tree: what is refused, in one line, with exit code 2."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

from limner.errors import Misconfigured
from limner.processes.listening import listen
from limner.processes.serve import serve
from limner.settings import Settings


def settings(tmp_path: Path, **given: object) -> Settings:
    return Settings.from_env({}, data_dir=tmp_path / "data", **given)


def refuse(url: str, seconds: float) -> None:
    raise AssertionError(f"it started on {url}")


def test_a_port_in_use_is_told(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(Misconfigured, match=rf"port {port} on 127\.0\.0\.1 cannot be used .*; use another --port"):
            serve(settings(tmp_path, port=port), on_ready=refuse)


def test_a_second_server_on_a_data_directory_is_told(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with (
        FileLock(tmp_path / "data" / "limner.lock"),
        pytest.raises(Misconfigured, match="another `limner serve` uses the data directory"),
    ):
        serve(settings(tmp_path), on_ready=refuse)


def test_a_host_that_others_can_reach_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=r"no API keys"):
        serve(settings(tmp_path, host="0.0.0.0"), on_ready=refuse)


def test_a_host_that_does_not_exist_is_told() -> None:
    with pytest.raises(Misconfigured, match=r"cannot listen on no\.such\.host\.invalid"):
        listen("no.such.host.invalid", 1)


def test_without_a_nats_server_nothing_starts(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="LIMNER_NATS_SERVER"):
        serve(settings(tmp_path, port=free_port(), nats_server=tmp_path / "absent"), on_ready=refuse)


def test_the_parent_stays_light() -> None:
    """It imports neither torch nor a web framework nor SQL: they are its children's."""
    code = "import sys, limner.processes.serve\n"
    code += "print([m for m in ('torch', 'fastapi', 'sqlalchemy', 'uvicorn', 'nats', 'obstore') if m in sys.modules])"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"


def test_the_supervisor_has_no_torch() -> None:
    code = "import sys, limner.processes.worker\nprint([m for m in ('torch', 'sqlalchemy') if m in sys.modules])"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"


def test_the_engine_says_hello_before_torch_is_loaded() -> None:
    code = "import sys, limner.processes.engine\nprint([m for m in ('torch', 'fastapi', 'nats') if m in sys.modules])"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
