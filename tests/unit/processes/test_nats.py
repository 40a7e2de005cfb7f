"""The bundled nats-server: found in its order, alone on its store, and never left behind."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from limner.errors import Misconfigured
from limner.processes import nats
from limner.processes.children import Child
from limner.processes.nats import NatsServer, find_server, stop_stale_server
from limner.settings import Settings
from tests.support.tree import eventually


def program(folder: Path, says: str) -> Path:
    """A program that says this, whatever it is asked."""
    folder.mkdir(exist_ok=True)
    path = folder / nats.PROGRAM
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)
    return path


def settings(tmp_path: Path, **given: object) -> Settings:
    return Settings.from_env({}, data_dir=tmp_path / "data", **given)


def test_the_installed_program_is_found(tmp_path: Path) -> None:
    found, version = find_server(settings(tmp_path))
    assert found.name == nats.PROGRAM
    assert tuple(int(part) for part in version.split(".")) >= nats.OLDEST


def test_a_named_program_goes_before_all(tmp_path: Path) -> None:
    named = program(tmp_path, "nats-server: v2.12.3")
    assert find_server(settings(tmp_path, nats_server=named)) == (named, "2.12.3")


@pytest.mark.parametrize("says", ["nats-server: v2.9.10", "something else"])
def test_a_named_program_that_will_not_do_is_refused(tmp_path: Path, says: str) -> None:
    with pytest.raises(Misconfigured, match="nats-server"):
        find_server(settings(tmp_path, nats_server=program(tmp_path, says)))


def test_an_old_program_on_the_path_is_passed_over_and_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = program(tmp_path / "bin", "nats-server: v2.9.10")
    monkeypatch.setattr(nats, "DISTRIBUTION", "no-such-distribution")
    monkeypatch.setattr(nats.sysconfig, "get_path", lambda name: str(tmp_path / "scripts"))
    monkeypatch.setenv("PATH", str(old.parent))
    with pytest.raises(Misconfigured, match=r"2\.9\.10.*pip install"):
        find_server(settings(tmp_path))


def test_two_servers_never_share_a_store(tmp_path: Path) -> None:
    first = NatsServer(Path("nats-server"), folder=tmp_path / "nats", log_file=tmp_path / "log")
    with pytest.raises(Misconfigured, match="in use by another process"):
        NatsServer(Path("nats-server"), folder=tmp_path / "nats", log_file=tmp_path / "log")
    first.release()
    NatsServer(Path("nats-server"), folder=tmp_path / "nats", log_file=tmp_path / "log").release()


def test_the_configuration_is_for_this_user_alone_and_listens_on_loopback(tmp_path: Path) -> None:
    server = NatsServer(Path("nats-server"), folder=tmp_path / "nats", log_file=tmp_path / "log")
    config = tmp_path / "nats" / "server.conf"
    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    text = config.read_text()
    assert 'listen: "127.0.0.1:' in text
    assert "sync_interval: always" in text
    assert server.url.split("@")[0].removeprefix("nats://") in text
    server.release()


async def test_a_server_starts_again_on_its_port_and_ends_when_told(tmp_path: Path) -> None:
    found, _ = find_server(settings(tmp_path))
    server = NatsServer(found, folder=tmp_path / "nats", log_file=tmp_path / "nats.log")
    child = Child("nats-server", server.command)
    pid_file = tmp_path / "nats" / "server.pid"
    child.start()
    first = await until_pid(pid_file, other_than=0)
    psutil.Process(first).kill()
    second = await until_pid(pid_file, other_than=first)
    await child.stop()
    assert not psutil.pid_exists(second)
    server.release()


async def until_pid(pid_file: Path, *, other_than: int) -> int:
    import asyncio

    async with asyncio.timeout(20):
        while True:
            try:
                pid = int(pid_file.read_text())
            except (FileNotFoundError, ValueError):
                pid = other_than
            if pid != other_than:
                return pid
            await asyncio.sleep(0.01)


def test_a_server_that_was_left_behind_is_stopped(tmp_path: Path) -> None:
    found, _ = find_server(settings(tmp_path))
    server = NatsServer(found, folder=tmp_path / "nats", log_file=tmp_path / "nats.log")
    left = subprocess.Popen(server.command)
    pid_file = tmp_path / "nats" / "server.pid"
    eventually(lambda: pid_file.exists() and pid_file.read_text() != "", seconds=20, what="the server runs")
    server.release()
    NatsServer(found, folder=tmp_path / "nats", log_file=tmp_path / "nats.log").release()
    assert left.wait(10) is not None


def test_another_process_under_an_old_pid_is_spared(tmp_path: Path) -> None:
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    (tmp_path / "pid").write_text(str(other.pid))
    stop_stale_server(tmp_path / "pid", tmp_path / "server.conf")
    assert other.poll() is None
    other.communicate(b"\n")


def test_a_stale_pid_file_is_no_fault(tmp_path: Path) -> None:
    stop_stale_server(tmp_path / "absent", tmp_path / "server.conf")
    (tmp_path / "pid").write_text("nonsense")
    stop_stale_server(tmp_path / "pid", tmp_path / "server.conf")
    (tmp_path / "pid").write_text(str(os.getpid()))
    stop_stale_server(tmp_path / "pid", tmp_path / "server.conf")
