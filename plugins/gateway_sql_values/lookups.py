"""Which statements a request needs, and what their rows say."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any
from uuid import UUID

from gateway import CustomValueRequest, SeveralCustomers
from gateway_sql_values.engine import Database, Rows
from gateway_sql_values.statement import BY_ADDRESS, Statement

Given = Mapping[str, str | None]
Row = dict[str, Any]


class Lookup:
    """One configured statement on its database. `columns` are the fields it is run for; None: not known yet."""

    def __init__(self, index: int, statement: Statement, fields: tuple[str, ...] | None, database: Database) -> None:
        self.parameters = statement.parameters
        self.keys = statement.keys
        self.columns = None if fields is None else frozenset(fields)
        self._index = index
        self._declared = self.columns
        self._database = database
        self._prepared = database.prepare(statement)

    async def learn(self) -> None:
        """Find the columns by running it for a customer that is nobody."""
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
    """What a statement's parameters stand for in this request."""
    return {
        "customer_uid": request.customer_uid,
        "outbound_channel_address": request.outbound_channel_address,
        "address_digits": request.address_digits,
        "organisation": request.organisation,
    }


def plan(lookups: Sequence[Lookup], request: CustomValueRequest, given: Given) -> list[tuple[Lookup, frozenset[str]]]:
    """Those that can run and may answer something that is asked for, each with the fields it is run for."""
    missing = {name for name, value in given.items() if value is None}
    every = frozenset(request.fields)
    by_address = every - request.not_by_address
    found = []
    for lookup in lookups:
        wanted = by_address if lookup.keys == BY_ADDRESS else every
        if missing.isdisjoint(lookup.parameters) and (fields := wanted.intersection(lookup.columns or ())):
            found.append((lookup, fields))
    return found


async def together(rows: Sequence[Awaitable[Row]], seconds: float) -> list[Row | Exception]:
    """All rows, or what went wrong with each: a `TimeoutError` for one that takes longer than so many seconds."""
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
    """The values of all rows; the first that has one wins, and a value goes before a null."""
    values: dict[str, Any] = {}
    for fields, row in rows:
        for field in fields:
            if values.get(field) is None and field in row:
                value = row[field]
                values[field] = str(value) if isinstance(value, UUID) else value
    return values
