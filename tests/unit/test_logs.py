"""The log's lines, as a machine and as a person read them."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from limner import logs


@pytest.fixture(autouse=True)
def _logging_restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_job_phase_is_one_json_line_with_all_members() -> None:
    out = io.StringIO()
    logs.setup("auto", "info", out)
    logs.job_phase("queued", job_id="j", prompt_id="p")
    logs.job_phase("failed", job_id="j", prompt_id="p", duration_ms=12, model="a.safetensors", error="out_of_memory")
    queued, failed = lines(out)
    assert {"ts", "level", "event", "job_id", "prompt_id", "status", "duration_ms", "model", "error"} == set(queued)
    assert queued["error"] is None
    assert (failed["level"], failed["duration_ms"], failed["model"]) == ("error", 12, "a.safetensors")


async def test_what_is_bound_stands_on_every_line_of_its_task_and_of_those_that_it_starts() -> None:
    out = io.StringIO()
    logs.setup("json", "info", out)

    async def say() -> None:
        logs.get("part").info("heard")

    async def work() -> None:
        logs.bind(worker="w1")
        await asyncio.create_task(say())

    await asyncio.create_task(work())
    await say()
    assert [line.get("worker") for line in lines(out)] == ["w1", None]


def test_a_terminal_gets_text_without_what_is_null() -> None:
    out = Terminal()
    logs.setup("auto", "info", out)
    logs.job_phase("succeeded", job_id="j", prompt_id="p", duration_ms=12)
    assert "succeeded" in out.getvalue()
    assert "model" not in out.getvalue()


def test_library_warnings_look_the_same_and_their_small_talk_is_left_out() -> None:
    out = io.StringIO()
    logs.setup("json", "info", out)
    logging.getLogger("uvicorn.access").info("GET /")
    logging.getLogger("nats").warning("gone %s", "away")
    (line,) = lines(out)
    assert (line["event"], line["logger"], line["level"]) == ("gone away", "nats", "warning")


def test_an_exception_becomes_one_line_with_its_traceback() -> None:
    out = io.StringIO()
    logs.setup("json", "info", out)
    try:
        raise ValueError("boom")
    except ValueError:
        logs.get("test").exception("it broke", request_id="r")
    (line,) = lines(out)
    assert "ValueError: boom" in str(line["exception"])
    assert line["request_id"] == "r"


def test_lines_below_the_level_are_not_written() -> None:
    out = io.StringIO()
    logs.setup("json", "error", out)
    logs.job_phase("queued", job_id="j", prompt_id="p")
    assert out.getvalue() == ""
