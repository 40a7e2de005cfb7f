"""A ComfyUI that Limner starts: what it inherits, where its output goes, how it is started again and ended."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest

from limner.processes.children import Pauses
from limner.processes.instance import Instance, environment
from limner.processes.logfile import LogFile

QUICK = Pauses(first=0.01, longest=0.02, steady=60)
SAYS_HELLO = "import os, time\nprint('hello', os.getpid(), flush=True)\ntime.sleep(60)"
ENDS_AT_ONCE = "import os\nprint('hello', os.getpid(), flush=True)"
HAS_A_CHILD = (
    "import os, subprocess, sys, time\n"
    "other = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
    "print('hello', other.pid, flush=True)\n"
    "time.sleep(60)"
)
DEAF = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + SAYS_HELLO


def toy(code: str) -> list[str]:
    return [sys.executable, "-c", code]


@asynccontextmanager
async def running(code: str, log: Path, *, stop_seconds: float = 10.0) -> AsyncIterator[Instance]:
    instance = Instance("toy", toy(code), log_file=LogFile(log), pauses=QUICK, stop_seconds=stop_seconds)
    instance.start()
    try:
        yield instance
    finally:
        await instance.stop()


async def hellos(log: Path, number: int) -> list[int]:
    """The pids of those that have said hello in the log, once there are so many."""
    async with asyncio.timeout(20):
        while not log.exists() or log.read_text().count("hello") < number or not log.read_text().endswith("\n"):
            await asyncio.sleep(0.005)
    return [int(line.split()[1]) for line in log.read_text().splitlines()]


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def until_gone(pid: int) -> None:
    async with asyncio.timeout(20):
        while alive(pid):
            await asyncio.sleep(0.005)


async def test_its_output_goes_to_its_log(tmp_path: Path) -> None:
    async with running(SAYS_HELLO, tmp_path / "logs" / "toy.log"):
        [process] = await hellos(tmp_path / "logs" / "toy.log", 1)
        assert alive(process)
    await until_gone(process)


async def test_one_that_ends_is_started_again(tmp_path: Path) -> None:
    async with running(ENDS_AT_ONCE, tmp_path / "log"):
        await hellos(tmp_path / "log", 3)


async def test_one_that_is_killed_is_started_again(tmp_path: Path) -> None:
    async with running(SAYS_HELLO, tmp_path / "log"):
        [first] = await hellos(tmp_path / "log", 1)
        os.kill(first, signal.SIGKILL)
        _, second = await hellos(tmp_path / "log", 2)
        assert alive(second)


async def test_one_that_ends_while_all_is_stopping_does_not_come_back(tmp_path: Path) -> None:
    async with running(SAYS_HELLO, tmp_path / "log") as instance:
        [first] = await hellos(tmp_path / "log", 1)
        instance.retire()
        os.kill(first, signal.SIGTERM)
        await until_gone(first)
        await asyncio.wait({task for task in asyncio.all_tasks() if task.get_name() == "toy"}, timeout=20)
    assert await hellos(tmp_path / "log", 1) == [first]


async def test_its_supervisor_can_have_it_started_again(tmp_path: Path) -> None:
    """A second question while it is being stopped means the same."""
    async with running(SAYS_HELLO, tmp_path / "log") as instance:
        [first] = await hellos(tmp_path / "log", 1)
        os.write(instance.restart_fd, b"rr")
        _, second = await hellos(tmp_path / "log", 2)
        await until_gone(first)
        assert alive(second)
        os.write(instance.restart_fd, b"r")
        assert len(await hellos(tmp_path / "log", 3)) == 3


async def test_the_pauses_between_its_starts_grow(tmp_path: Path) -> None:
    from structlog.testing import capture_logs

    pauses = Pauses(first=0.001, longest=0.004, steady=60)
    instance = Instance("toy", toy(ENDS_AT_ONCE), log_file=LogFile(tmp_path / "log"), pauses=pauses)
    with capture_logs() as told:
        instance.start()
        await hellos(tmp_path / "log", 5)
        await instance.stop()
    taken = [entry["pause_seconds"] for entry in told if "pause_seconds" in entry]
    assert taken[:4] == [0.001, 0.002, 0.004, 0.004]


async def test_a_deaf_one_is_killed(tmp_path: Path) -> None:
    async with running(DEAF, tmp_path / "log", stop_seconds=0.2):
        [process] = await hellos(tmp_path / "log", 1)
    await until_gone(process)


async def test_what_it_has_started_ends_with_it(tmp_path: Path) -> None:
    async with running(HAS_A_CHILD, tmp_path / "log"):
        [grandchild] = await hellos(tmp_path / "log", 1)
    await until_gone(grandchild)


async def test_what_it_has_started_ends_when_it_is_killed(tmp_path: Path) -> None:
    async with running(HAS_A_CHILD, tmp_path / "log"):
        [grandchild] = await hellos(tmp_path / "log", 1)
        parent = psutil.Process(grandchild).parent()
        assert parent is not None
        parent.kill()
        await until_gone(grandchild)


async def test_all_of_it_ends_with_a_limner_that_is_killed(tmp_path: Path) -> None:
    code = (
        "import asyncio, sys\nfrom pathlib import Path\n"
        "from limner.processes.instance import Instance\nfrom limner.processes.logfile import LogFile\n"
        "async def main():\n"
        " Instance('toy', sys.argv[2:], log_file=LogFile(Path(sys.argv[1]))).start()\n"
        " await asyncio.sleep(60)\n"
        "asyncio.run(main())"
    )
    log = tmp_path / "log"
    limner = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, str(log), *toy(HAS_A_CHILD), stderr=asyncio.subprocess.DEVNULL
    )
    [grandchild] = await hellos(log, 1)
    family = [process.pid for process in psutil.Process(limner.pid).children(recursive=True)]
    assert grandchild in family
    limner.kill()
    await limner.wait()
    for pid in family:
        await until_gone(pid)


async def test_a_program_that_is_not_there_is_told_in_the_log(tmp_path: Path) -> None:
    instance = Instance("toy", [str(tmp_path / "absent")], log_file=LogFile(tmp_path / "log"), pauses=QUICK)
    instance.start()
    async with asyncio.timeout(20):
        while not (tmp_path / "log").exists() or "cannot start" not in (tmp_path / "log").read_text():
            await asyncio.sleep(0.005)
    await instance.stop()
    assert "No such file" in (tmp_path / "log").read_text()


def test_it_inherits_no_setting_of_ours() -> None:
    """They hold the queue's token; its node packs are anybody's code."""
    ours = {"PATH": "/bin", "HF_TOKEN": "x", "LIMNER_NATS_URL": "nats://token@host", "LIMNER_STORE_URL": "s3://b"}
    assert environment(ours) == {"PATH": "/bin", "HF_TOKEN": "x"}


@pytest.mark.parametrize(("size", "copied"), [(10, False), (11, True)])
def test_a_log_that_is_too_large_starts_anew_and_keeps_one_copy(tmp_path: Path, size: int, copied: bool) -> None:
    log, old = LogFile(tmp_path / "toy.log", largest_bytes=10), tmp_path / "toy.log.1"
    with log.open() as file:
        file.write(b"x" * size)
        file.flush()
        log.turn_over()
        file.write(b"and on")
    assert log.path.read_bytes() == (b"and on" if copied else b"x" * size + b"and on")
    assert old.exists() == copied
