"""Moves of cursors, by far the most frequent settlements. Those that come while a statement runs go into the next one:
a gateway with many plugins and shards needs no more commits than one with a single plugin."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from gateway.journal.interface import JournalFull, Settlement, Track
from gateway.journal.postgresql.database import LOCAL_ONLY
from gateway.journal.postgresql.settling import lost

if TYPE_CHECKING:
    from gateway.journal.postgresql.connection import DatabaseConnection
    from gateway.journal.postgresql.database import Database

_MOVE: Final = """
WITH moves AS (
    SELECT c.plugin, c.shard, m.seq FROM unnest($1::text[], $2::int[], $3::bigint[], $4::bigint[])
        AS m(plugin, shard, epoch, seq)
    JOIN cursors c ON c.plugin = m.plugin AND c.shard = m.shard AND c.epoch = m.epoch
    ORDER BY c.plugin, c.shard FOR NO KEY UPDATE OF c
)
UPDATE cursors c SET seq = moves.seq FROM moves WHERE c.plugin = moves.plugin AND c.shard = moves.shard
RETURNING c.plugin, c.shard
"""
"""Locks the rows in order, as renewals of leases do, so that no two statements wait for each other."""


class Moves:
    """At most one statement at a time, each a transaction of its own."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: list[tuple[Settlement, asyncio.Future[None]]] = []
        self._task: asyncio.Task[None] | None = None

    async def move(self, settlement: Settlement) -> None:
        """Move a cursor; done once that is durable. `LeaseLost`; `JournalError`."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((settlement, future))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="moves of cursors")
        await future

    async def close(self) -> None:
        """Wait for what was handed over."""
        if self._task is not None:
            await asyncio.wait((self._task,))

    async def _run(self) -> None:
        while self._waiting:
            group, self._waiting = self._waiting, []
            try:
                moved = await self._move([settlement for settlement, _ in group])
            except Exception as error:
                for _, future in group:
                    if not future.done():
                        future.set_exception(error)
                continue
            for settlement, future in group:
                if future.done():
                    continue  # its caller has gone
                if settlement.track in moved:
                    future.set_result(None)
                else:
                    future.set_exception(lost(settlement.track))

    async def _move(self, settlements: Sequence[Settlement]) -> set[Track]:
        """Move cursors; returns those whose epoch was right."""
        if self._database.failed is not None:
            raise self._database.failed
        async with self._database.connection() as connection:
            connection.local_only = False
            moved = await _moved(connection, settlements)
            if connection.local_only:
                raise JournalFull(LOCAL_ONLY)
            return moved


async def _moved(connection: DatabaseConnection, settlements: Sequence[Settlement]) -> set[Track]:
    rows = [(*one.track, one.epoch, one.cursor) for one in settlements]
    found = await connection.fetch(_MOVE, *zip(*rows, strict=True))
    return {Track(row["plugin"], row["shard"]) for row in found}
