"""Statements that run several times for every job, without what SQLAlchemy does around each execution.

It compiles them, once; on SQLite they then go straight to the driver, within SQLAlchemy's transaction. That takes a
sixth of the time, and a job needs about seventeen of them.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, Executable, text
from sqlalchemy.dialects.sqlite import dialect
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql import ClauseElement

Values = Mapping[str, Any]
Row = Any
"""A row by the names of its columns: `row["id"]`."""


class Hot:
    """`values` bind the statement's `:names`; results are what the driver gives, so a boolean is 0 or 1."""

    def __init__(self, statement: str | Executable) -> None:
        self.statement: Any = text(statement) if isinstance(statement, str) else statement
        assert isinstance(self.statement, ClauseElement)
        self.sqlite = str(self.statement.compile(dialect=dialect(paramstyle="named")))

    def run(self, connection: Connection, values: Values) -> None:
        self.all(connection, values)

    def one(self, connection: Connection, values: Values) -> Row:
        """The first row, of which there must be one."""
        return self.all(connection, values)[0]

    def find(self, connection: Connection, values: Values) -> Row | None:
        """The first row, if there is any."""
        rows = self.all(connection, values)
        return rows[0] if rows else None

    def all(self, connection: Connection, values: Values) -> list[Row]:
        driver = connection.connection.driver_connection
        if not isinstance(driver, sqlite3.Connection):
            result = connection.execute(self.statement, dict(values))
            return list(result.mappings()) if result.returns_rows else []
        cursor = driver.cursor()
        cursor.row_factory = sqlite3.Row
        try:
            return cursor.execute(self.sqlite, values).fetchall()
        except sqlite3.Error as error:
            raise DBAPIError.instance(self.sqlite, None, error, sqlite3.Error) from error
        finally:
            cursor.close()
