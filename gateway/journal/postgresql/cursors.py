"""The cursors of plugins, with their leases; see `Cursors`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from gateway.events import Event
from gateway.journal.agreement import Disagreement, disagreements
from gateway.journal.interface import (
    EVERY_HOOK,
    Changes,
    Delivers,
    Entry,
    Filter,
    HeldBy,
    JournalFull,
    Parked,
    Settlement,
    Share,
    Standing,
    Stretch,
    Track,
)
from gateway.journal.postgresql import settling, taking
from gateway.journal.postgresql.columns import REPLACED
from gateway.journal.postgresql.database import LOCAL_ONLY
from gateway.journal.postgresql.following import Follower, fetched
from gateway.journal.postgresql.sharding import buckets_of

if TYPE_CHECKING:
    import uuid

    from gateway.config.tables import Config
    from gateway.decoding import Decoder
    from gateway.journal.postgresql.connection import DatabaseConnection
    from gateway.journal.postgresql.database import Database
    from gateway.journal.postgresql.leases import Leases
    from gateway.journal.postgresql.marks import CursorMarks
    from gateway.journal.postgresql.moving import Moves
    from gateway.journal.postgresql.nodes import Nodes


class Reach(NamedTuple):
    """Which events a shard has: its buckets, and up to where those of each are settled."""

    buckets: range
    floors: Sequence[int | None] | None


class PostgresqlCursors:
    """The part of `PostgresqlJournal` that deliveries use."""

    config: Config
    database: Database
    decoder: Decoder
    identity: uuid.UUID
    clock: Callable[[], float]
    on_turnover: list[Callable[[], None]]
    nodes: Nodes
    leases: Leases
    _marks: CursorMarks
    _moves: Moves
    _follower: Follower
    _channel: str

    def __init__(self) -> None:
        self.about: Callable[[], Mapping[str, object]] = dict
        self._reach: dict[Track, Reach] = {}
        self._order: dict[Track, asyncio.Lock] = {}
        """What concerns one cursor is done in the order in which it was asked for."""

    @property
    def newest(self) -> int:
        raise NotImplementedError

    def _heard(self, newest: int) -> None:
        raise NotImplementedError

    @property
    def _owner(self) -> taking.Owner:
        return taking.Owner(self.identity, self.config.node.name, self.leases)

    def _in_order(self, track: Track) -> asyncio.Lock:
        return self._order.setdefault(track, asyncio.Lock())

    async def take_cursor(
        self, track: Track, from_start: bool, hooks: Collection[str] = (EVERY_HOOK,), shards: int = 1
    ) -> Standing | HeldBy:
        async with self._in_order(track):
            held = await self.database.query(taking.look, track, shards, self._owner)
            if held is None:
                asked = self.leases.clock()
                taken = await self.database.operate(taking.take, track, from_start, hooks, shards, self._owner)
                if isinstance(taken, taking.Taken):
                    standing = taken.standing
                    standing.lease = self.leases.begin(track, standing.epoch, asked)
                    standing.parked = await self._exact(standing.parked)
                    self._reach[track] = Reach(buckets_of(track.shard, shards), taken.floors)
                    self._heard(taken.newest)
                    return standing
                held = taken
        return HeldBy(held.name, self.clock() + held.seconds)

    async def release_cursor(self, track: Track, epoch: int, clean: bool) -> None:
        async with self._in_order(track):
            try:
                await self.database.operate(settling.release, track, epoch, clean, self._channel)
            finally:
                self.leases.end(track)  # where it could not be released, it ends for lack of renewals

    def share(self, plugin: str, shards: int, owned: int) -> Share:
        return self.nodes.share(plugin, shards, owned)

    async def announce(self, deliveries: Callable[[], Mapping[str, Delivers]]) -> None:
        self.nodes.deliveries, self.nodes.about = deliveries, self.about
        await self.nodes.announce()

    def disagreements(self) -> list[Disagreement]:
        return disagreements(self.nodes.peers)

    def _turned_over(self) -> None:
        for listener in self.on_turnover:
            listener()

    async def read_track(
        self, track: Track, after: int, limit: int, which: Filter | None = None, until: int | None = None
    ) -> Stretch:
        buckets, floors = self._reach[track]
        if which is None:
            return await self._follower.stretch(after, limit, buckets, floors)
        end = self.newest if until is None else until
        piece = await self._follower.piece(after, end, limit, buckets, which)
        return Stretch([Entry(row.seq, row.event) for row in piece.rows], piece.through)

    async def read(self, after: int, limit: int) -> Sequence[Entry]:
        return await self._follower.entries(after, self.newest, limit, Filter())

    async def fetch(self, seqs: Sequence[int]) -> dict[int, Event]:
        return dict(await self.database.query(fetched, self.decoder, seqs))

    async def scan(self, which: Filter, after: int, until: int, limit: int) -> Sequence[Entry]:
        return await self._follower.entries(after, until, limit, which)

    async def settle(self, settlement: Settlement) -> None:
        now = self.clock()
        async with self._in_order(settlement.track):
            if settling.is_move(settlement):
                await self._moves.move(settlement)
            else:
                await self.database.operate(settling.settle, settlement, now)
        if settlement.cursor is not None:
            self._marks.moved(settlement.track, settlement.cursor, now)

    async def _write(self, run: Callable[[DatabaseConnection], Awaitable[None]]) -> None:
        """Run one statement that is a transaction of its own."""
        if self.database.failed is not None:
            raise self.database.failed
        async with self.database.connection() as connection:
            connection.local_only = False
            await run(connection)
            if connection.local_only:
                raise JournalFull(LOCAL_ONLY)

    async def mark_running(self, track: Track, epoch: int, seq: int) -> None:
        async with self._in_order(track):
            await self._write(lambda connection: settling.mark_running(connection, track, epoch, seq))

    async def mark_survived(self, track: Track, epoch: int, seq: int) -> None:
        async with self._in_order(track):
            await self._write(lambda connection: settling.mark_survived(connection, track, epoch, seq))

    async def changes(self, track: Track) -> Changes:
        async with self._in_order(track):
            found = await self.database.query(_changes, track)
        return Changes(await self._exact(found.parked), found.replays)

    async def _exact(self, rows: list[Parked]) -> list[Parked]:
        """Parked rows with their conversations as events have them: a column cannot hold every text."""
        unsure = [row for row in rows if row.conversation is not None and REPLACED in row.conversation]
        if unsure:
            events = await self.fetch([row.seq for row in unsure])
            for row in unsure:
                if (event := events.get(row.seq)) is not None and event.conversation_id is not None:
                    row.conversation = f"{event.organisation}/{event.conversation_id}"
        return rows


async def _changes(connection: DatabaseConnection, track: Track) -> Changes:
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        return await taking.changes(connection, track)
