"""The journal in a PostgreSQL database: a connection that appends, one that listens, and a few for everything else."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import uuid
from collections.abc import Callable
from typing import Final

from gateway.config.tables import Config
from gateway.decoding import Decoded, Decoder
from gateway.journal.append import Appends, awaited
from gateway.journal.commits import Commits
from gateway.journal.interface import Done, JournalError, JournalFailed, JournalFull, JournalRefused, Receipt
from gateway.journal.postgresql.claims import OPERATIONS
from gateway.journal.postgresql.connection import DatabaseConnection, connect
from gateway.journal.postgresql.cursors import PostgresqlCursors
from gateway.journal.postgresql.database import Database
from gateway.journal.postgresql.durability import identity_fault, require, system_identifier
from gateway.journal.postgresql.failures import DatabaseLost, NoPrimary, translated
from gateway.journal.postgresql.following import Follower
from gateway.journal.postgresql.layout import Marker, marker_of, upgrade
from gateway.journal.postgresql.leases import DEFAULT_TIMES, Leases, LeaseTimes
from gateway.journal.postgresql.listener import NEWEST, AppendListener
from gateway.journal.postgresql.marks import CursorMarks
from gateway.journal.postgresql.moving import Moves
from gateway.journal.postgresql.nodes import Nodes
from gateway.journal.postgresql.operator import PostgresqlOperator
from gateway.journal.postgresql.records import Records
from gateway.journal.postgresql.settling import CURSORS
from gateway.journal.postgresql.upkeep import Upkeep
from gateway.journal.postgresql.writer import AppendWriter, LastKept
from gateway.journal.search import ValueRecord

log = logging.getLogger("gateway.journal")

HOUSEKEEPING: Final = 0.5
"""Seconds between two looks at retention, and between two tries to write where that failed."""
START_SECONDS: Final = 60.0
"""How long a start waits for a database that cannot be reached."""
START_PAUSE: Final = 0.5


class PostgresqlJournal(PostgresqlCursors, PostgresqlOperator):
    """See `Journal`. Several processes may work on one database at the same time; `identity` is this one's."""

    def __init__(
        self, config: Config, *, clock: Callable[[], float] = time.time, lease: LeaseTimes = DEFAULT_TIMES
    ) -> None:
        super().__init__()
        self.identity = uuid.uuid4()
        self.config = config
        self.decoder = Decoder(config)
        self.database = Database(config)
        self.on_commit: list[Callable[[], None]] = []
        self.on_turnover: list[Callable[[], None]] = []
        self.on_operations: list[Callable[[], None]] = []
        self.on_failure: Callable[[JournalFailed], None] = lambda error: None
        self.value_records_lost = 0
        self.commits = Commits()
        self.clock = clock
        self._newest = 0
        self._told = False
        self._appends = Appends(clock)
        self._records = Records(self.database, self._record_lost)
        self.leases = Leases(lease)
        self._marks = CursorMarks()
        self._moves = Moves(self.database)
        self._looking: asyncio.Task[None] | None = None
        self._is_stale = False
        """Whether another gateway has said that something is different since the last look began."""
        self._closing = False
        self._upkeep = Upkeep(self.database, config, self.identity, clock, self.on_operations)
        self._marker: Marker
        self._writer: AppendWriter
        self._listener: AppendListener
        self._housekeeper: asyncio.Task[None]

    async def start(self) -> None:
        connection = await self._first_connection()
        try:
            with translated():
                self._marker = await upgrade(connection)
                self._newest = int(await connection.fetchval(NEWEST))
            await require(connection, self.config, self._marker, again=False)
            self._writer = AppendWriter(
                self.config, self._reconnect, self._marker.channel, self.commits, self._committed
            )
            self.database.troubled = lambda error: self._writer.refusing.refuse(str(error))
            self._channel = self._marker.channel
            self._follower = Follower(self.database, lambda: self.decoder, lambda: self._newest)
            self.nodes = Nodes(
                self.config, self.identity, self._marker.layout, self._channel, self.leases, self._marks, self.clock,
                self._turned_over,
            )  # fmt: skip
            self._listener = AppendListener(
                self.config, self._channel, self._heard,
                {CURSORS: self._look_around, OPERATIONS: self._upkeep.operators_changed},
            )  # fmt: skip
            await self._listener.start()
        except BaseException:
            connection.terminate()
            raise
        self.database.timeline, self.database.moved = connection.timeline, self._writer.leave_server
        self.leases.server_changed()
        self._writer.start(connection)
        self._housekeeper = asyncio.create_task(self._housekeeping())
        try:
            await self.probe()  # a disk without room is found now
        except BaseException:
            await self.close()
            raise

    async def _first_connection(self) -> DatabaseConnection:
        """Connect; a database that starts, or fails over, has `START_SECONDS` for that."""
        deadline, told = time.monotonic() + START_SECONDS, ""
        while True:
            try:
                connection = await connect(self.config, "writer", by_index=True)
                try:
                    await require(connection, self.config, None, again=False)
                except BaseException:
                    connection.terminate()
                    raise
                return connection
            except DatabaseLost as error:
                if time.monotonic() >= deadline:
                    kind = JournalRefused if isinstance(error, NoPrimary) else JournalError
                    raise kind(f"{error}, after {START_SECONDS:.0f} s of trying") from error
                if str(error) != told:
                    told = str(error)
                    log.warning("journal: %s; trying again for %.0f s", told, deadline - time.monotonic())
                await asyncio.sleep(START_PAUSE)

    async def close(self) -> None:
        self._closing = True
        if self._looking is not None:
            await asyncio.wait([self._looking])
        await self._moves.close()
        await self.nodes.stop()
        await self._writer.stop()
        self._housekeeper.cancel()
        await asyncio.wait([self._housekeeper])
        await self._records.flush()
        await self._upkeep.leave()
        await self._listener.stop()
        await self.database.close()

    @property
    def newest(self) -> int:
        return self._newest

    @property
    def damaged(self) -> int:
        return 0  # PostgreSQL's own checksums find damage: `data_checksums`

    def refusal(self) -> str | None:
        return self._writer.refusal

    def append(self, organisation: str, decoded: Decoded, raw: bytes) -> asyncio.Future[Receipt]:
        future: asyncio.Future[Receipt] = asyncio.get_running_loop().create_future()
        self.append_then(organisation, decoded, raw, awaited(future))
        return future

    def append_then(self, organisation: str, decoded: Decoded, raw: bytes, done: Done) -> None:
        if (refusal := self._writer.refusal) is not None:
            raise self._writer.failed or JournalFull(refusal)
        self._writer.put(self._appends.make(organisation, decoded, raw, done))

    def record_value_request(self, record: ValueRecord) -> None:
        self._records.add(record)

    def forget_read(self) -> None:
        self._follower.tail.begin(self._newest)

    async def probe(self) -> None:
        await self._records.flush()  # as with any change, what was handed over before is kept before
        await super().probe()

    def _record_lost(self, count: int) -> None:
        self.value_records_lost += count

    async def _reconnect(self, last: LastKept | None) -> DatabaseConnection:
        """A connection for the writer, after one was lost; the others may lead to a server that is not the primary."""
        self.database.drop_idle()
        connection = await connect(self.config, "writer", by_index=True)
        try:
            await require(connection, self.config, None, again=True)
            with translated():
                found = await marker_of(connection, running=True)
            if found is None or found.journal != self._marker.journal:
                raise JournalFailed(
                    "the database in journal.url is another one than before; a commit was lost, and what became of it"
                    " is unknown"
                )
            if (fault := identity_fault(self._marker, await self._identifier(connection))) is not None:
                raise JournalFailed(f"{fault}; a commit was lost, and what became of it is unknown")
            if connection.timeline != self.database.timeline:
                await self._change_server(connection, last)
        except BaseException:
            connection.terminate()
            raise
        return connection

    async def _change_server(self, connection: DatabaseConnection, last: LastKept | None) -> None:
        """A standby was promoted. Begin from what it has: a cursor in memory could be ahead of it."""
        with translated():
            head = int(await connection.fetchval(NEWEST))
            there = last and await connection.fetchval("SELECT id::text FROM events WHERE seq = $1", last.seq)
        lost = head < self._newest or (last is not None and there is not None and there != last.id)
        if lost:
            log.critical(
                "journal: the database has lost events that were answered as kept: a standby without them is the"
                " primary now; make the standby a synchronous one"
            )
        else:
            log.warning("journal: another server is the primary of the database now")
        self._newest = head
        self._follower.tail.begin(head)
        for track in self.leases.held():
            self.leases.end(track)
        self.leases.server_changed()
        self.database.move_to(connection.timeline)
        self._listener.leave_server()
        self.nodes.leave_server()

    async def _identifier(self, connection: DatabaseConnection) -> str | None:
        with translated():
            return await system_identifier(connection)

    def _look_around(self) -> None:
        """Another gateway has said that something is different: perhaps a cursor is free, which can be asked for before
        the look."""
        self._is_stale = True
        self._turned_over()
        if not self._closing and (self._looking is None or self._looking.done()):
            self._looking = asyncio.create_task(self._look())

    async def _look(self) -> None:
        while self._is_stale and not self._closing:
            self._is_stale = False
            with contextlib.suppress(JournalError):  # the next beat looks, too
                await self.nodes.look()
            self._turned_over()

    def _committed(self, newest: int) -> None:
        if self._writer.failed is not None:
            self.database.failed = self._writer.failed
            if not self._told:
                self._told = True
                self.on_failure(self._writer.failed)
            return
        self._heard(newest)

    def _heard(self, newest: int) -> None:
        if newest > self._newest:
            self._newest = newest
            for listener in self.on_commit:
                listener()

    async def _housekeeping(self) -> None:
        while True:
            await asyncio.sleep(HOUSEKEEPING)
            try:
                if self._writer.refusing.is_due and not self._writer.reconnecting:
                    await self._look_again()
                await self._upkeep.look()
            except JournalError as error:
                log.debug("journal: retention has to wait: %s", error)
            except Exception as error:
                log.critical("journal: internal error in housekeeping; it is tried again", exc_info=error)

    async def _look_again(self) -> None:
        """New events are refused, because one could not be kept. Take them again once that has changed."""
        try:
            async with self.database.connection() as connection:
                await require(connection, self.config, self._marker, again=True)
            await self.probe()
        except DatabaseLost:
            return
        except JournalError as error:
            self._writer.refusing.refuse(str(error))
        else:
            if not self._writer.reconnecting:  # its connection may have been lost meanwhile
                self._writer.refusing.take()
