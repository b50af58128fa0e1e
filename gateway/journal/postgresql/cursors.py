"""The cursors of plugins, with their leases; see `Cursors`."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING

from gateway.events import Event
from gateway.journal.interface import (
    EVERY_HOOK,
    Changes,
    Entry,
    Filter,
    HeldBy,
    Settlement,
    Share,
    Standing,
    Stretch,
    Track,
)
from gateway.journal.postgresql.columns import EVENT, restore
from gateway.journal.postgresql.connection import DatabaseConnection

if TYPE_CHECKING:
    from gateway.config.tables import Config
    from gateway.decoding import Decoder
    from gateway.journal.postgresql.database import Database


class PostgresqlCursors:
    """The part of `PostgresqlJournal` that deliveries use."""

    config: Config
    database: Database
    decoder: Decoder
    identity: uuid.UUID
    clock: Callable[[], float]

    @property
    def newest(self) -> int:
        raise NotImplementedError

    async def take_cursor(
        self, track: Track, from_start: bool, hooks: Collection[str] = (EVERY_HOOK,), shards: int = 1
    ) -> Standing | HeldBy:
        raise NotImplementedError

    def share(self, plugin: str) -> Share:
        raise NotImplementedError

    async def read_track(
        self, track: Track, after: int, limit: int, which: Filter | None = None, until: int | None = None
    ) -> Stretch:
        raise NotImplementedError

    async def release_cursor(self, track: Track, epoch: int, clean: bool) -> None:
        raise NotImplementedError

    async def read(self, after: int, limit: int) -> Sequence[Entry]:
        return await self.database.query(_read, self.decoder, "seq > $1 ORDER BY seq LIMIT $2", after, limit)

    async def fetch(self, seqs: Sequence[int]) -> dict[int, Event]:
        return dict(await self.database.query(_read, self.decoder, "seq = ANY($1::bigint[]) ORDER BY seq", seqs))

    async def scan(self, which: Filter, after: int, until: int, limit: int) -> Sequence[Entry]:
        if which != Filter():
            raise NotImplementedError
        condition = "seq > $1 AND seq <= $2 ORDER BY seq LIMIT $3"
        return await self.database.query(_read, self.decoder, condition, after, until, limit)

    async def settle(self, settlement: Settlement) -> None:
        raise NotImplementedError

    async def mark_running(self, track: Track, epoch: int, seq: int) -> None:
        raise NotImplementedError

    async def mark_survived(self, track: Track, epoch: int, seq: int) -> None:
        raise NotImplementedError

    async def changes(self, track: Track) -> Changes:
        raise NotImplementedError


async def _read(connection: DatabaseConnection, decoder: Decoder, condition: str, *values: object) -> list[Entry]:
    rows = await connection.fetch(f"SELECT {EVENT} FROM events WHERE {condition}", *values)
    return [Entry(row[0], restore(decoder, row)) for row in rows]
