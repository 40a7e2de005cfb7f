"""Limner's log: JSON lines for machines, readable text on a terminal. Written to standard error."""

from __future__ import annotations

import json
import logging
import sys
from typing import Any, Literal, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

Format = Literal["auto", "json", "text"]


def setup(format: Format = "auto", level: str = "info", stream: TextIO | None = None) -> None:
    """Sets how this whole process logs, what libraries write through `logging` included.

    "auto" is text where `stream` (standard error by default) is a terminal, and JSON lines elsewhere.
    """
    out = stream or sys.stderr
    as_text = format == "text" or (format == "auto" and out.isatty())
    number = logging.getLevelNamesMapping()[level.upper()]
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        _logger_name,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
    ]
    if not as_text:
        shared.append(structlog.processors.format_exc_info)
    renderer = _text_renderer(out) if as_text else _json_line
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(out),
        cache_logger_on_first_use=False,
    )
    _take_over_logging(shared, renderer, out, number)


def get(name: str) -> Any:
    """A logger whose lines carry `logger=name`. Call it as `log.info("what happened", key=value)`."""
    return structlog.get_logger(logger_name=name)


def bind(**members: Any) -> None:
    """Puts members, such as `worker`, on every line that the calling task and those it starts will write."""
    structlog.contextvars.bind_contextvars(**members)


def job_phase(
    status: str,
    *,
    job_id: str,
    prompt_id: str,
    duration_ms: float | None = None,
    model: str | None = None,
    error: str | None = None,
    **more: Any,
) -> None:
    """One line for a job's new status: `queued`, `running`, `succeeded`, `failed`, `canceled`.

    The named members are always there, null where they do not apply; they never hold the texts of a prompt.
    """
    log = structlog.get_logger()
    write = log.error if status == "failed" else log.info
    write(
        "job",
        job_id=job_id,
        prompt_id=prompt_id,
        status=status,
        duration_ms=duration_ms,
        model=model,
        error=error,
        **more,
    )


def _logger_name(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Our loggers say `logger` as those of libraries do; structlog keeps that word from its initial values."""
    if "logger_name" in event:
        event["logger"] = event.pop("logger_name")
    return event


def _take_over_logging(shared: list[Processor], renderer: Processor, out: TextIO, level: int) -> None:
    """What libraries log looks like the rest; only from warnings on, unless Limner itself is asked for debug lines."""
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level if level <= logging.DEBUG else max(level, logging.WARNING))


def _json_line(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    """When, how grave and what come first, for people who read the lines as they are."""
    first = {"ts": event.pop("ts"), "level": event.pop("level"), "event": event.pop("event")}
    return json.dumps({**first, **event}, default=str)


def _text_renderer(out: TextIO) -> Processor:
    console = structlog.dev.ConsoleRenderer(
        colors=out.isatty(), timestamp_key="ts", pad_event_to=0, exception_formatter=structlog.dev.plain_traceback
    )

    def render(logger: WrappedLogger, method: str, event: EventDict) -> str:
        """Leaves out what is null, and the date: a person at a terminal knows it."""
        event["ts"] = event["ts"][11:23]
        return console(logger, method, {key: value for key, value in event.items() if value is not None})

    return render
