"""`limner worker --engine comfyui=URL`: its processes, whatever is killed, and how it ends."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.machine import TOY, Machine, machine
from tests.support.nats import NatsServer
from tests.support.tree import eventually, free_port

START = f"{shlex.quote(sys.executable)} -c {shlex.quote(TOY)} {{port}}"
SUPERVISOR, TOYS = "limner.processes.worker", "a toy listens"


@pytest.fixture
def nats(tmp_path: Path) -> Iterator[NatsServer]:
    server = NatsServer(tmp_path / "nats")
    asyncio.run(server.start())
    yield server
    server.kill()


def output(log: Path) -> str:
    """What a toy has written, once it has."""
    return eventually(lambda: log.read_text() if log.exists() else "", seconds=40, what="the toy's output")


def until_it_works(limner: Machine) -> None:
    """It is on the bus, where nobody answers here."""
    eventually(lambda: "no gateway answers" in limner.told(), seconds=40, what="it asks for its work")


def engines(*ports: int) -> list[str]:
    return [word for port in ports for word in ("--engine", f"comfyui=http://127.0.0.1:{port}")]


def test_one_engine_is_driven_by_the_process_itself(tmp_path: Path, nats: NatsServer) -> None:
    with machine(tmp_path / "data", *engines(free_port()), LIMNER_NATS_URL=nats.url) as limner:
        until_it_works(limner)
        assert len(limner.family()) == 1
        assert limner.end(signal.SIGINT) == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_all_of_several_engines_end_with_it(tmp_path: Path, nats: NatsServer, number: signal.Signals) -> None:
    ports = free_port(), free_port()
    with machine(tmp_path / "data", *engines(*ports), "--start", START, LIMNER_NATS_URL=nats.url) as limner:
        limner.some(2, SUPERVISOR)
        for index, port in enumerate(ports, 1):
            assert output(tmp_path / "data" / "logs" / f"comfyui-{index}.log") == f"a toy listens on {port}\n"
        assert limner.end(number) == 0


def test_all_end_when_it_is_killed(tmp_path: Path, nats: NatsServer) -> None:
    with machine(tmp_path / "data", *engines(free_port()), "--start", START, LIMNER_NATS_URL=nats.url) as limner:
        limner.some(1, SUPERVISOR)
        limner.some(2, TOYS)  # the toy, and its guard
        limner.end(signal.SIGKILL)


def test_a_comfyui_outlives_its_killed_supervisor_which_is_started_again(tmp_path: Path, nats: NatsServer) -> None:
    with machine(tmp_path / "data", *engines(free_port()), "--start", START, LIMNER_NATS_URL=nats.url) as limner:
        toys, [first] = limner.some(2, TOYS), limner.some(1, SUPERVISOR)
        os.kill(first, signal.SIGKILL)
        limner.some(1, SUPERVISOR, other_than={first})
        assert limner.pids(TOYS) == toys
        assert limner.end(signal.SIGINT) == 0


def test_a_killed_comfyui_is_started_again(tmp_path: Path, nats: NatsServer) -> None:
    with machine(tmp_path / "data", *engines(free_port()), "--start", START, LIMNER_NATS_URL=nats.url) as limner:
        toys, supervisors = limner.some(2, TOYS), limner.some(1, SUPERVISOR)
        os.kill(max(toys), signal.SIGKILL)
        limner.some(2, TOYS, other_than=toys)
        assert limner.pids(SUPERVISOR) == supervisors


@pytest.mark.slow  # a lock that was just let go is waited for
def test_two_machines_cannot_drive_under_one_name(tmp_path: Path, nats: NatsServer) -> None:
    """One data directory, one name: the second says so and ends, the first goes on."""
    port = free_port()
    with machine(tmp_path / "data", *engines(port), LIMNER_NATS_URL=nats.url) as first:
        until_it_works(first)
        more = [*engines(port), "--engine", "own"]  # a parent of two: its child's exit code becomes its own
        with machine(tmp_path / "data", *more, LIMNER_NATS_URL=nats.url) as second:
            assert second.process.wait(60) == 2
        assert "another worker runs as" in first.told()
        assert first.end(signal.SIGINT) == 0


@pytest.mark.slow  # found out by heartbeats
def test_a_second_supervisor_of_a_comfyui_says_so_and_ends(tmp_path: Path, nats: NatsServer) -> None:
    """Each has a data directory of its own, as on two machines that reach one ComfyUI."""
    port = free_port()
    with machine(tmp_path / "one", *engines(port), LIMNER_NATS_URL=nats.url) as first:
        until_it_works(first)
        with machine(tmp_path / "two", *engines(port), LIMNER_NATS_URL=nats.url) as second:
            assert second.process.wait(60) == 2
            assert "LIMNER_WORKER_ID" in second.told().splitlines()[-1]
        assert first.process.poll() is None
        assert first.end(signal.SIGINT) == 0


@pytest.mark.slow  # one that just ends is waited for
def test_a_comfyui_that_runs_already_is_not_started_beside(tmp_path: Path, nats: NatsServer) -> None:
    port = free_port()
    with machine(tmp_path / "one", *engines(port), "--start", START, LIMNER_NATS_URL=nats.url) as limner:
        limner.some(2, TOYS)
        assert output(tmp_path / "one" / "logs" / "comfyui-1.log")
        with machine(tmp_path / "two", *engines(port), "--start", START, LIMNER_NATS_URL=nats.url) as second:
            assert second.process.wait(60) == 2
            [line] = second.told().splitlines()
        assert f"something listens on http://127.0.0.1:{port} already: leave --start away" in line
