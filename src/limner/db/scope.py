"""Whose rows: the one place where the tenant enters a statement that a caller asked for."""

from __future__ import annotations

from sqlalchemy import ColumnElement, Table


def of(tenant: str, table: Table) -> ColumnElement[bool]:
    """The condition every statement on behalf of a caller carries."""
    mine: ColumnElement[bool] = table.c.tenant == tenant
    return mine
