"""The statements that run for every job find their rows by an index, however long the history grows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from sqlalchemy import TextClause, text

from limner.db import jobs, release
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
