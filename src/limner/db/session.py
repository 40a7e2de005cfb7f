"""The database: one writer at a time on SQLite, transactions as plain functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import Connection

T = TypeVar("T")


class Database:
    """`write` and `read` run a function over a SQLAlchemy Connection in one transaction."""

    @classmethod
    async def open(cls, url: str) -> Database: 
        """Opens and migrates. `url`: `sqlite:///PATH` or `postgresql://...`."""
        ...

    async def write(self, work: Callable[[Connection], T]) -> T: ...

    async def read(self, work: Callable[[Connection], T]) -> T: ...

    async def close(self) -> None: ...
