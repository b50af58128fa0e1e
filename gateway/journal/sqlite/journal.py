"""The journal in one SQLite file: a writer thread, and readers' threads."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

import apsw

from gateway.config.tables import Config
from gateway.decoding import Decoded, Decoder
from gateway.events import Event
from gateway.journal.append import Append, Appends, awaited
from gateway.journal.commits import Commits
from gateway.journal.damage import Damage, DamagedPlace, event_at
from gateway.journal.interface import (
    EVERY_HOOK,
    Changes,
    Done,
    Entry,
    Filter,
    JournalDamaged,
    JournalError,
    JournalFailed,
    JournalFull,
    Receipt,
    Settlement,
    Standing,
    Track,
)
from gateway.journal.one_shard import OneShard
from gateway.journal.search import ValueRecord
from gateway.journal.sqlite import cursors
from gateway.journal.sqlite.checksum import sound_events
from gateway.journal.sqlite.connection import open_reader_connection, open_writer
from gateway.journal.sqlite.indexer import Indexer
from gateway.journal.sqlite.operator import SqliteOperator
from gateway.journal.sqlite.queries import keep_record, page_from, restore, where
from gateway.journal.sqlite.tail import Tail
from gateway.journal.sqlite.work import Operate
from gateway.journal.sqlite.writer import Limits, Writer

T = TypeVar("T")
P = ParamSpec("P")
RECORDS: Final = 10_000
"""The most records of custom value requests that wait for a commit."""
READ_BYTES: Final = 4 * 2**20


class SqliteJournal(OneShard, SqliteOperator):
    """See `Journal`. One process at a time: take the lock before `start`."""

    def __init__(
        self,
        config: Config,
        *,
        clock: Callable[[], float] = time.time,
        copy_before_upgrade: bool = True,
        vfs: str | None = None,
    ) -> None:
        self.path: Path = config.journal.path
        self.decoder = Decoder(config)
        self.on_commit: list[Callable[[], None]] = []
        self.on_turnover: list[Callable[[], None]] = []
        self.on_operations: list[Callable[[], None]] = []
        self.on_failure: Callable[[JournalFailed], None] = lambda error: None
        self.value_records_lost = 0
        self.commits = Commits()
        self._records, self._told = 0, False
        self._limits = Limits(config)
        self._clock = clock
        self._copy, self._vfs = copy_before_upgrade, vfs
        self._appends = Appends(clock)
        self._damage = Damage(self.path)
        self._readers = ThreadPoolExecutor(2, thread_name_prefix="journal-reader")
        self._local = threading.local()
        self._opened: list[apsw.Connection] = []
        self._connection: apsw.Connection
        self._writer: Writer
        self._indexer: Indexer
        self._tail: Tail

    async def start(self) -> None:
        self._connection = await asyncio.to_thread(open_writer, self.path, self._vfs, self._copy)
        try:
            self._writer = Writer(
                self._connection, self.path, self._limits, self._committed, self._clock, self._damage, self.commits
            )
        except apsw.Error as error:
            self._connection.close()
            raise JournalError(f"the journal {self.path} cannot be read: {error}") from error
        self._tail = Tail(self._writer.last_seq)
        self._indexer = Indexer(self.path, lambda: self.newest, self._limits.min_free, self._vfs)
        self._writer.start()
        self._indexer.start()
        try:
            await self.probe()  # a disk without room is found now
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        await self._writer.stop()
        await asyncio.to_thread(self._indexer.stop)
        await asyncio.to_thread(self._readers.shutdown)
        for connection in self._opened:
            connection.close()
        self._connection.close()

    @property
    def newest(self) -> int:
        return self._writer.last_seq

    @property
    def damaged(self) -> int:
        return self._damage.count

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
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        future.add_done_callback(self._recorded)
        self._records += 1
        if self._writer.failed is None and self._records <= RECORDS:
            self._writer.put(Operate(lambda connection: keep_record(connection, record), future))
        else:
            future.set_exception(JournalFull("too many records wait"))

    def _recorded(self, future: asyncio.Future[Any]) -> None:
        self._records -= 1
        if future.cancelled() or future.exception() is not None:
            self.value_records_lost += 1

    async def take_cursor(
        self, track: Track, from_start: bool, hooks: Collection[str] = (EVERY_HOOK,), shards: int = 1
    ) -> Standing:
        return await self.operate(cursors.take, track, 0 if from_start else self.newest, hooks)

    async def release_cursor(self, track: Track, epoch: int, clean: bool) -> None:
        await self.operate(cursors.release, track, epoch, clean)

    async def read(self, after: int, limit: int) -> Sequence[Entry]:
        if after >= self._tail.after:
            return self._tail.read(after, limit)
        return await self._read("events WHERE seq > ? ORDER BY seq LIMIT ?", (after, limit), READ_BYTES)

    async def fetch(self, seqs: Sequence[int]) -> dict[int, Event]:
        marks = ",".join("?" * len(seqs))
        return dict(await self._read(f"events WHERE seq IN ({marks})", tuple(seqs), whole=True))

    async def scan(self, which: Filter, after: int, until: int, limit: int) -> Sequence[Entry]:
        condition, values = where(which)
        return await self._read(
            f"{page_from(which)} WHERE seq > ? AND seq <= ? AND {condition} ORDER BY seq LIMIT ?",
            (after, until, *values, limit),
            READ_BYTES,
        )

    async def settle(self, settlement: Settlement) -> None:
        now = self._clock()
        await self.operate(cursors.settle, settlement, now)
        if settlement.cursor is not None:
            self._writer.marks.moved(settlement.track.plugin, settlement.cursor, now)

    async def mark_running(self, track: Track, epoch: int, seq: int) -> None:
        await self.operate(cursors.mark_running, track, epoch, seq)

    async def mark_survived(self, track: Track, epoch: int, seq: int) -> None:
        await self.operate(cursors.mark_survived, track, epoch, seq)

    async def changes(self, track: Track) -> Changes:
        return await self.operate(cursors.changes, track)  # in line with the settlements, so not older than any

    async def retire_cursors(self, keep: Collection[str]) -> None:
        await self.operate(cursors.retire, keep, self._clock())

    async def operate(self, run: Callable[Concatenate[apsw.Connection, P], T], *values: P.args, **named: P.kwargs) -> T:
        """Run something in the next commit; its result once that is durable."""
        if self._writer.failed is not None:
            raise self._writer.failed
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._writer.put(Operate(lambda connection: run(connection, *values, **named), future))
        try:
            result: T = await future
        except DamagedPlace as error:
            raise self._damage.found(error.place) from None
        return result

    async def query(self, run: Callable[Concatenate[apsw.Connection, P], T], *values: P.args, **named: P.kwargs) -> T:
        """Run something that only reads, in a reader's thread; `JournalError` where that fails."""

        def work() -> T:
            try:
                return run(self._reader(), *values, **named)
            except (apsw.CorruptError, apsw.NotADBError) as error:
                raise self._damage.found(f"a page of the file ({error})") from error
            except apsw.Error as error:
                raise JournalError(f"the journal cannot be read ({type(error).__name__}: {error})") from error

        return await asyncio.get_running_loop().run_in_executor(self._readers, work)

    async def _read(
        self, rest: str, values: tuple[Any, ...], limit: int = sys.maxsize, whole: bool = False
    ) -> list[Entry]:
        """What `SELECT seq FROM rest` finds. `limit` is in bytes of bodies; the entry that exceeds it is the last. A
        damaged event ends the page before it, and is an error where it is the first, or where `whole` is true."""

        def stop(seq: int) -> None:
            raise self._damage.found(event_at(seq))

        def run(connection: apsw.Connection) -> list[Entry]:
            entries: list[Entry] = []
            size = 0
            try:
                with closing(sound_events(connection, rest, values, stop)) as found:
                    for row in found:
                        entries.append(Entry(row[0], restore(self.decoder, row)))
                        size += len(entries[-1].event.raw)
                        if size >= limit:
                            break
            except JournalDamaged:
                if whole or not entries:
                    raise
            return entries

        return await self.query(run)

    def _reader(self) -> apsw.Connection:
        connection: apsw.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = open_reader_connection(self.path, self._vfs, own=True)
            self._opened.append(connection)
        return connection

    def _committed(self, appends: Sequence[Append]) -> None:
        if self._writer.failed is not None:
            if not self._told:
                self._told = True
                self.on_failure(self._writer.failed)
            return
        self._tail.add(appends)
        for listener in self.on_commit:
            listener()
