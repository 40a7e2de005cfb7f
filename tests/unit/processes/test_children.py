"""Child processes: started again when they end, stopped when told, never left behind."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import psutil
import pytest
import structlog

from limner.processes.children import Child, how

WAIT = "time.sleep(60)"
STUBBORN = (
    "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('deaf', flush=True)\ntime.sleep(60)"
)


def python(code: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", code, *arguments]


async def until_lines(path: Path, number: int) -> list[int]:
    async with asyncio.timeout(20):
        while not path.exists() or len(path.read_text().split()) < number:
            await asyncio.sleep(0.005)
    return [int(word) for word in path.read_text().split()]


def leaving_its_pid(path: Path, then: str, *, deaf: bool = False) -> list[str]:
    code = "import os, signal, sys, time\n"
    if deaf:
        code += "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    code += "with open(sys.argv[1], 'a') as f: f.write(f'{os.getpid()} ')\n" + then
    return python(code, str(path))


async def test_a_child_that_ends_is_started_again(tmp_path: Path) -> None:
    child = Child("one", leaving_its_pid(tmp_path / "pids", WAIT))
    child.start()
    [first] = await until_lines(tmp_path / "pids", 1)
    psutil.Process(first).kill()
    _, second = await until_lines(tmp_path / "pids", 2)
    await child.stop()
    assert not psutil.pid_exists(second)


async def test_a_child_that_says_it_is_misconfigured_is_not_tried_again(tmp_path: Path) -> None:
    child = Child("one", leaving_its_pid(tmp_path / "pids", "sys.exit(2)"))
    child.start()
    async with asyncio.timeout(20):
        await child.gave_up.wait()
    assert len(await until_lines(tmp_path / "pids", 1)) == 1
    await child.stop()


async def test_an_exit_code_that_means_nothing_starts_it_again(tmp_path: Path) -> None:
    """A panic of nats-server ends with the code that our own processes use for a wrong setting."""
    child = Child("one", leaving_its_pid(tmp_path / "pids", "sys.exit(2)"), may_give_up=False)
    child.start()
    assert len(await until_lines(tmp_path / "pids", 2)) >= 2
    assert not child.gave_up.is_set()
    await child.stop()


async def test_a_program_that_cannot_be_started_is_tried_again(tmp_path: Path) -> None:
    program = tmp_path / "program"
    child = Child("one", [str(program), str(tmp_path / "pids")])
    with structlog.testing.capture_logs() as told:
        child.start()
        async with asyncio.timeout(20):
            while not any("not started" in str(entry.get("ended")) for entry in told):
                await asyncio.sleep(0.005)
    program.write_text('#!/bin/sh\necho $$ >> "$1"\nexec sleep 60\n')
    program.chmod(0o700)
    assert await until_lines(tmp_path / "pids", 1)
    await child.stop()


async def test_a_child_that_will_not_stop_is_killed(tmp_path: Path) -> None:
    child = Child("one", leaving_its_pid(tmp_path / "pids", WAIT, deaf=True), stop_seconds=0.2)
    child.start()
    [pid] = await until_lines(tmp_path / "pids", 1)
    await child.stop()
    assert not psutil.pid_exists(pid)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux's kernel ends the children of a killed parent")
async def test_a_group_that_has_ended_may_be_told_as_not_permitted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So says macOS where Linux says that there is none."""

    def refused(group: int, number: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "killpg", refused)
    child = Child("one", leaving_its_pid(tmp_path / "pids", "sys.exit(0)"), whole_group=True)
    child.start()
    with structlog.testing.capture_logs() as told:
        await until_lines(tmp_path / "pids", 2)
    await child.stop()
    assert told[0]["ended"] == "exit code 0"


async def test_children_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    code = "import asyncio, sys\nfrom limner.processes.children import Child\n"
    code += "async def main():\n Child('c', sys.argv[1:]).start()\n await asyncio.sleep(60)\nasyncio.run(main())"
    parent = await asyncio.create_subprocess_exec(*python(code), *leaving_its_pid(tmp_path / "pids", WAIT))
    [pid] = await until_lines(tmp_path / "pids", 1)
    orphan = psutil.Process(pid)
    parent.kill()
    await parent.wait()
    gone, _ = await asyncio.to_thread(psutil.wait_procs, [orphan], 10)
    assert gone


def test_exit_codes_are_told_in_words() -> None:
    assert [how(0), how(2), how(-9), how(-250)] == ["exit code 0", "exit code 2", "SIGKILL", "signal 250"]
