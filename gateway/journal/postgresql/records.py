"""Records of custom value requests on their way into the journal. No caller waits for them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from gateway.journal.interface import JournalError
from gateway.journal.postgresql.columns import storable
from gateway.journal.postgresql.connection import DatabaseConnection
from gateway.journal.postgresql.database import Database
from gateway.journal.search import ValueRecord

WAITING: Final = 10_000
"""The most records that wait for a commit."""
_INSERT: Final = (
    "INSERT INTO value_records (at, organisation, customer_uid, address, fields, status)"
    " SELECT * FROM unnest($1::timestamptz[], $2::text[], $3::text[], $4::text[], $5::text[], $6::integer[])"
)


class Records:
    """`lost` gets the number of records that could not be kept."""

    def __init__(self, database: Database, lost: Callable[[int], None]) -> None:
        self._database = database
        self._lost = lost
        self._waiting: list[ValueRecord] = []
        self._task: asyncio.Task[None] | None = None

    def add(self, record: ValueRecord) -> None:
        """Keep a record with the next commit, or count it as lost."""
        if len(self._waiting) >= WAITING:
            self._lost(1)
            return
        self._waiting.append(record)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._keep())

    async def flush(self) -> None:
        """Wait until no record waits."""
        while self._task is not None and not self._task.done():
            await asyncio.wait([self._task])

    async def _keep(self) -> None:
        while self._waiting:
            group, self._waiting = self._waiting, []
            try:
                await self._database.operate(_insert, group)
            except JournalError:
                self._lost(len(group))


async def _insert(connection: DatabaseConnection, records: Sequence[ValueRecord]) -> None:
    rows: list[tuple[Any, ...]] = [
        (
            one.at,
            storable(one.organisation),
            storable(one.customer_uid),
            storable(one.address),
            storable(msgspec.json.encode(one.fields).decode()),
            one.status,
        )
        for one in records
    ]
    await connection.execute(_INSERT, *zip(*rows, strict=True))
