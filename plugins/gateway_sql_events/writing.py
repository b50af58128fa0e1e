"""Writes rows, and finds those that the table refuses among the others."""

from __future__ import annotations

from collections.abc import Sequence

from gateway_databases import DatabaseFailed

from gateway_sql_events.database import Database
from gateway_sql_events.table import EventTable, Row


async def write(database: Database, table: EventTable, rows: Sequence[Row], refused: dict[str, str]) -> None:
    """Write rows, all in one transaction; where the table refuses some, halves of them in their own ones, down to
    those. By their ids, the reasons are added to `refused`. `DatabaseFailed` where rows could not be written for
    another reason."""
    if not rows:
        return
    try:
        await database.run(lambda connection: connection.execute(table.upsert, table.parameters(rows)))
    except DatabaseFailed as error:
        if not error.of_row:
            raise
        if len(rows) == 1:
            refused[rows[0]["id"]] = f"the table refuses its row: {error}"
            return
        half = len(rows) // 2
        for part in (rows[:half], rows[half:]):
            await write(database, table, part, refused)
