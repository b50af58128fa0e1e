"""Deletes the rows of what is to be forgotten."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Table, delete, or_, select

from gateway import Selector
from gateway_sql_events.database import Database

_PAGE: Final = 200
"""Rows that are read at once; with their bodies, of 1 MiB at most by default."""


async def erase(database: Database, table: Table, selector: Selector) -> int:
    """Delete every row whose body is of what the selector names, in one transaction for each page of the table; how
    many those were. A customer and a conversation are looked up by their columns. An address is in the bodies only, so
    that all of them are read."""
    after, erased = "", 0
    while True:
        last, count = await database.run(lambda connection: _page(connection, table, selector, after))  # noqa: B023
        erased += count
        if last is None:
            return erased
        after = last


def _page(connection: Connection, table: Table, selector: Selector, after: str) -> tuple[str | None, int]:
    """Look at the next rows after this id: the last one's id, or None at the end, and how many were deleted."""
    columns = table.c
    rows = connection.execute(
        select(columns.id, columns.organisation, columns.body)
        .where(columns.id > after, *_candidates(columns, selector))
        .order_by(columns.id)
        .limit(_PAGE)
    ).all()
    ids = [row.id for row in rows if selector.matches(row.organisation, row.body.encode())]
    if ids:
        connection.execute(delete(table).where(columns.id.in_(ids)))
    return (rows[-1].id if len(rows) == _PAGE else None), len(ids)


def _candidates(columns: Any, selector: Selector) -> list[ColumnElement[bool]]:
    """Conditions that every row meets that matches. A body that cannot be read as its hook may have no value there."""
    found = []
    if selector.organisation is not None:
        found.append(columns.organisation == selector.organisation)
    for name in ("customer_uid", "conversation_id"):
        value = getattr(selector, name)
        if value is not None:
            found.append(or_(columns[name] == value, columns[name].is_(None)))
    return found
