"""The statements that run for every job find their rows by an index, however long the history grows."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, TextClause, event, text

from limner.db import history, jobs, release
from limner.db.hot import Hot
from tests.support.durable import durable

PARAMETERS = {
    "pool": "default",
    "tenant": "default",
    "rank": 0,
    "number": 0.0,
    "age": 2.0,
    "seq": 1,
    "vft": 1.0,
}


CALLS: dict[str, tuple[Callable[[Connection], object], str]] = {
    "history entry": (lambda c: history.entry(c, "t", "p"), "jobs_prompt"),
    "history page": (lambda c: history.page(c, "t", skip=5, limit=10), "jobs_history"),
    "history count": (lambda c: history.count(c, "t"), "jobs_history"),
    "hide": (lambda c: history.hide(c, "t", ["p", "q"]), "jobs_prompt"),
    "running": (lambda c: jobs.running(c, "t"), "jobs_live_prompt"),
    "waiting": (lambda c: jobs.waiting(c, "t"), "jobs_live_prompt"),
    "had by a worker": (lambda c: jobs.had_by(c, "default", "w"), "jobs_out"),
    "cancel": (lambda c: jobs.cancel_queued(c, "t", ["p"]), "jobs_live_prompt"),
}


@pytest.mark.parametrize("name", CALLS)
async def test_what_callers_ask_finds_its_rows_by_an_index(tmp_path: Path, name: str) -> None:
    """The plan of whatever statement the call runs."""
    call, index = CALLS[name]
    asked: list[tuple[str, Any]] = []

    def hear(_c: object, _cursor: object, statement: str, parameters: Any, _context: object, _many: bool) -> None:
        asked.append((statement, parameters))

    def plans(connection: Connection) -> list[str]:
        event.listen(connection, "before_cursor_execute", hear)
        call(connection)
        event.remove(connection, "before_cursor_execute", hear)
        driver: Any = connection.connection.driver_connection
        return [row[3] for sql, values in asked for row in driver.execute(f"EXPLAIN QUERY PLAN {sql}", values)]

    async with durable(tmp_path) as d:
        assert index in (await d.db.write(plans))[0]


@pytest.mark.parametrize(
    "statement", [release._ROOM, release._NEXT, release._RECALL, release._OUT_FOR, jobs._SAVE, release._AGE]
)
async def test_no_statement_of_dispatch_reads_the_whole_table(tmp_path: Path, statement: Hot | TextClause) -> None:
    async with durable(tmp_path) as d:
        clause = statement.statement if isinstance(statement, Hot) else statement
        wanted = {name: PARAMETERS.get(name) for name in clause._bindparams}
        rows = await d.db.read(lambda c: c.execute(text(f"EXPLAIN QUERY PLAN {clause.text}"), wanted).all())
        assert rows
        reads = [row.detail for row in rows if re.match(r"(SCAN|SEARCH) (jobs|turn|other)\b", row.detail)]
        assert reads
        assert [
            read for read in reads if not re.search(r"SEARCH.*(jobs_slot|jobs_turn|jobs_out|PRIMARY KEY)", read)
        ] == []
