"""Which statements a request needs, and the values in their rows."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any
from uuid import UUID

from gateway import CustomValueRequest, SeveralCustomers
from gateway_sql_values.engine import Database, Rows
from gateway_sql_values.statement import PARAMETERS, Statement

Given = Mapping[str, str | None]
Row = dict[str, Any]


class Lookup:
    """One configured statement on its database. `columns` are the fields it is run for; None: not known yet."""

    def __init__(self, index: int, statement: Statement, fields: tuple[str, ...] | None, database: Database) -> None:
        self.parameters = statement.parameters
        self.columns = None if fields is None else frozenset(fields)
        self._index = index
        self._declared = self.columns
        self._database = database
        self._prepared = database.prepare(statement.clause)

    async def learn(self) -> None:
        """Find the columns by running it with NULL for every parameter."""
        if self.columns is None:
            self.columns = frozenset((await self._fetch(dict.fromkeys(self.parameters))).names)

    async def row(self, given: Given) -> dict[str, Any]:
        """The customer's row by column name, empty where there is none."""
        names, rows = await self._fetch(given)
        if len(rows) > 1:
            raise SeveralCustomers
        if self._declared is not None and not self._declared.issubset(names):
            raise ValueError(f"queries[{self._index}] does not give all of the columns that its fields name")
        return dict(zip(names, rows[0], strict=True)) if rows else {}

    async def _fetch(self, given: Given) -> Rows:
        found = await self._database.fetch(self._prepared, given)
        if len(set(found.names)) < len(found.names):
            raise ValueError(f"queries[{self._index}] gives two columns of one name")
        return found


def parameters(request: CustomValueRequest) -> dict[str, str | None]:
    """The values of a statement's parameters in this request."""
    return {name: getattr(request, name) for name in PARAMETERS}


def plan(lookups: Sequence[Lookup], request: CustomValueRequest) -> list[tuple[Lookup, frozenset[str]]]:
    """The look-ups that can run and may answer some of the request's fields, each with those fields."""
    found = []
    for lookup in lookups:
        fields = (lookup.columns or frozenset()).intersection(request.fields_for(*lookup.parameters))
        if fields:
            found.append((lookup, fields))
    return found


async def together(rows: Sequence[Awaitable[Row]], seconds: float) -> list[Row | Exception]:
    """The rows, or the error of each: `TimeoutError` for one that takes longer than `seconds`."""
    tasks = [asyncio.ensure_future(row) for row in rows]
    try:
        await asyncio.wait(tasks, timeout=max(0.0, seconds))
        return [_result(task) for task in tasks]
    finally:
        for task in tasks:
            task.cancel()
            task.add_done_callback(lambda done: done.cancelled() or done.exception())


def _result(task: asyncio.Future[Row]) -> Row | Exception:
    if not task.done():
        return TimeoutError("the statement took too long")
    error = task.exception()
    if error is None:
        return task.result()
    if not isinstance(error, Exception):
        raise error
    return error


def merged(rows: Sequence[tuple[frozenset[str], Mapping[str, Any]]]) -> dict[str, Any]:
    """The values of all rows by field. The first row with a value decides; a value goes before a null."""
    values: dict[str, Any] = {}
    for fields, row in rows:
        for field in fields:
            if values.get(field) is None and field in row:
                value = row[field]
                values[field] = str(value) if isinstance(value, UUID) else value
    return values
