"""The journal in one SQLite file: a writer thread, readers' threads, and the newest events in memory."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import sys
import threading
import time
from bisect import bisect_right
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import apsw

from gateway.config.tables import Config
from gateway.decoding import Decoded
from gateway.events import Event
from gateway.journal.ids import Ids
from gateway.journal.interface import (
    Entry,
    Filter,
    GivenRow,
    JournalError,
    JournalFailed,
    JournalFull,
    Parked,
    Receipt,
    Replay,
    Settlement,
    Standing,
)
from gateway.journal.sqlite import progress
from gateway.journal.sqlite.filters import page_from, where
from gateway.journal.sqlite.insert import Append
from gateway.journal.sqlite.rows import COLUMNS, Decoder, moment
from gateway.journal.sqlite.schema import open_reader_connection, open_writer
from gateway.journal.sqlite.value_records import note
from gateway.journal.sqlite.writer import Limits, Operate, Writer

log = logging.getLogger("gateway.journal")

T = TypeVar("T")
TAIL_EVENTS: Final = 4096
TAIL_BYTES: Final = 32 * 2**20
STEP: Final = 1000
"""Dead letters that one commit changes."""
NOTES: Final = 10_000
"""So many records of custom value requests may wait for a commit."""
READ_BYTES: Final = 4 * 2**20


class SqliteJournal:
    """The journal of one gateway. `on_commit` is called in the loop after events were added."""

    def __init__(self, config: Config, *, clock: Callable[[], float] = time.time, vfs: str | None = None) -> None:
        settings = config.journal
        self.path: Path = settings.path
        self.decoder = Decoder(config)
        self.on_commit: list[Callable[[], None]] = []
        self.on_failure: Callable[[JournalFailed], None] = lambda error: None
        self.notes_lost = 0
        """How many custom value requests have left no record."""
        self._notes = 0
        self._told = False
        self.crashed = False
        """Whether the last gateway on this journal ended without closing it."""
        self._limits = Limits(
            settings.retention,
            config.values.audit_retention,
            settings.dedupe_window,
            settings.max_size,
            settings.min_free,
        )
        self._clock = clock
        self._vfs = vfs
        self._ids = Ids()
        self._tail: list[Entry] = []
        self._tail_bytes = 0
        self._tail_after = 0
        self._readers = ThreadPoolExecutor(2, thread_name_prefix="journal-reader")
        self._local = threading.local()
        self._opened: list[apsw.Connection] = []
        self._connection: apsw.Connection
        self._writer: Writer

    async def start(self) -> None:
        """Open the file, making it where it is missing; `JournalError` with a sentence where it cannot be used."""
        self._connection = await asyncio.to_thread(open_writer, self.path, self._vfs)
        try:
            self._writer = Writer(self._connection, self.path, self._limits, self._committed, self._clock)
        except apsw.Error as error:
            self._connection.close()
            raise JournalError(f"the journal {self.path} cannot be read: {error}") from error
        self._tail_after = self._writer.last_seq
        self._writer.start()
        try:
            self.crashed = await self.operate(progress.mark_open)
        except BaseException:
            await self._end()
            raise

    async def close(self, cautious: bool = False) -> None:
        """Commit what is on its way and close. The next start finds a clean end, but not where the start before this
        one did not, and its caution is still needed."""
        clean = not (self.crashed and cautious)
        if self._writer.failed is None:
            try:
                await self.operate(lambda connection: progress.mark_closed(connection, clean))
            except JournalError as error:
                log.error("the journal could not be closed cleanly: %s", error)
        await self._end()

    async def _end(self) -> None:
        await self._writer.stop()
        await asyncio.to_thread(self._readers.shutdown)
        for connection in self._opened:
            connection.close()
        self._connection.close()

    @property
    def last_seq(self) -> int:
        """The position of the newest event."""
        return self._writer.last_seq

    def refusal(self) -> str | None:
        """None, or why new events cannot be kept now."""
        return self._writer.refusal

    def append(self, organisation: str, decoded: Decoded, raw: bytes) -> asyncio.Future[Receipt]:
        """Keep an event; the future is done when it is committed. `JournalFull`, or `JournalFailed` from it."""
        if self._writer.refusal is not None:
            raise self._writer.failed or JournalFull(self._writer.refusal)
        micros = int(self._clock() * 1_000_000)
        event = Event(
            id=self._ids.new(micros),
            received_at=moment(micros),
            organisation=organisation,
            hook=decoded.hook,
            payload=decoded.payload,
            raw=raw,
            readable=decoded.readable,
            conversation_id=decoded.conversation_id,
            customer_uid=decoded.customer_uid,
        )
        scope = f"{organisation}/{decoded.hook}/"
        digest = natural_key = None
        if decoded.created is not None:
            digest = hashlib.blake2b(scope.encode() + raw, digest_size=16).digest()
            if decoded.natural_key is not None:
                natural_key = scope + decoded.natural_key
        future: asyncio.Future[Receipt] = asyncio.get_running_loop().create_future()
        self._writer.put(Append(event, micros, decoded.created, digest, natural_key, future))
        return future

    async def read(self, after: int, limit: int) -> Sequence[Entry]:
        """At most `limit` events after a position, in order, fewer of large ones; the newest come from memory."""
        if after >= self._tail_after:
            start = bisect_right(self._tail, after, key=_seq)
            return self._tail[start : start + limit]
        sql = f"SELECT {COLUMNS} FROM events WHERE seq > ? ORDER BY seq LIMIT ?"
        return await self._read(sql, (after, limit), READ_BYTES)

    async def fetch(self, seqs: Sequence[int]) -> dict[int, Event]:
        """The events at these positions, of those that are there."""
        marks = ",".join("?" * len(seqs))
        rows = await self._read(f"SELECT {COLUMNS} FROM events WHERE seq IN ({marks})", tuple(seqs))
        return {entry.seq: entry.event for entry in rows}

    async def scan(self, which: Filter, after: int, until: int, limit: int) -> Sequence[Entry]:
        """Like `read`, of those events that a filter means, up to a position."""
        condition, values = where(which)
        return await self._read(
            f"SELECT {COLUMNS} FROM {page_from(which)} WHERE seq > ? AND seq <= ? AND {condition} ORDER BY seq LIMIT ?",
            (after, until, *values, limit),
            READ_BYTES,
        )

    async def settle(self, settlement: Settlement) -> None:
        """Commit one plugin's progress. `JournalFull` where there is no room: try again."""
        await self.operate(lambda connection: progress.settle(connection, settlement))

    async def open_cursor(self, plugin: str, from_start: bool) -> Standing:
        """Where a plugin stands; a new one begins at the end of the journal, or at its start."""
        begins = 0 if from_start else self.last_seq
        return await self.operate(lambda connection: progress.open_cursor(connection, plugin, begins))

    async def retire_cursors(self, keep: Sequence[str]) -> None:
        """Mark the cursors of plugins that are no longer there; drop those that have been gone for the retention."""
        now = self._clock()
        oldest = now - self._limits.retention / 1_000_000
        await self.operate(lambda connection: progress.retire(connection, keep, now, oldest))

    async def suspect(self, plugin: str, running: int | None, over: int | None) -> None:
        """Record durably which delivery runs next, and that the one before it is over and took nothing down."""
        await self.operate(lambda connection: progress.suspect(connection, plugin, running, over))

    async def changes(self, plugin: str) -> tuple[list[Parked], list[Replay]]:
        """What is parked for a plugin and its replays that are not over, with what operators have changed of both."""
        # in line with the settlements, so that it is no older than any of them
        return await self.operate(lambda c: (progress.parked(c, plugin), progress.replays(c, plugin)))

    async def retry_dead(self, which: Filter, plugins: Collection[str] | None = None) -> int:
        """Make dead letters due again, out of order; with `plugins`, of these only. Returns how many."""
        return await self._in_steps(partial(progress.retry_dead, plugins=plugins), which)

    async def count_dead(self, which: Filter) -> int:
        """How many dead letters there are."""
        return await self.query(lambda connection: progress.count_dead(connection, which))

    async def discard_dead(self, which: Filter) -> int:
        """Give dead letters up; returns how many."""
        return await self._in_steps(progress.discard_dead, which)

    async def _in_steps(self, change: Callable[[apsw.Connection, Filter, int], int], which: Filter) -> int:
        done = 0
        while count := await self.operate(lambda connection: change(connection, which, STEP)):
            done += count
        return done

    async def new_replay(self, which: Filter) -> Replay:
        """Have all that a filter means now delivered again to `which.plugin`."""
        until = self.last_seq
        matched = await self.query(lambda connection: progress.count(connection, which, until))
        return await self.operate(lambda connection: progress.new_replay(connection, which, until, matched))

    async def replay_state(self, number: int) -> tuple[int, bool]:
        """How many events a replay has done, and whether it is over; `ValueError` where there is none."""
        return await self.query(lambda connection: progress.replay_state(connection, number))

    async def probe(self) -> None:
        """Write and read back; `JournalError` where either fails."""
        value = self._clock()
        written = await self.operate(lambda connection: progress.probe(connection, value))
        if written != value:
            raise JournalError("the journal does not read back what was written")

    def note(self, row: GivenRow) -> None:
        """Keep the record of a custom value request. Nobody waits for it: without room it is left out and counted."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        future.add_done_callback(self._noted)
        self._notes += 1
        if self._writer.failed is None and self._notes <= NOTES:
            self._writer.put(Operate(lambda connection: note(connection, row), future))
        else:
            future.set_exception(JournalFull("too many records wait"))

    def _noted(self, future: asyncio.Future[Any]) -> None:
        self._notes -= 1
        if future.cancelled() or future.exception() is not None:
            self.notes_lost += 1

    async def operate(self, run: Callable[[apsw.Connection], T]) -> T:
        """Run something in the next commit; its result once that is durable."""
        if self._writer.failed is not None:
            raise self._writer.failed
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._writer.put(Operate(run, future))
        result: T = await future
        return result

    async def query(self, run: Callable[[apsw.Connection], T]) -> T:
        """Run something that only reads, in a reader's thread; `JournalError` where that fails."""

        def work() -> T:
            try:
                return run(self._reader())
            except apsw.Error as error:
                raise JournalError(f"the journal cannot be read ({type(error).__name__}: {error})") from error

        return await asyncio.get_running_loop().run_in_executor(self._readers, work)

    async def _read(self, sql: str, values: tuple[Any, ...], limit: int = sys.maxsize) -> list[Entry]:
        """`limit`: bytes of bodies; the entry that goes beyond is the last."""

        def run(connection: apsw.Connection) -> list[Entry]:
            entries: list[Entry] = []
            size = 0
            with closing(connection.execute(sql, values)) as found:
                for row in found:
                    entries.append(Entry(row[0], self.decoder.restore(row)))
                    size += len(entries[-1].event.raw)
                    if size >= limit:
                        break
            return entries

        return await self.query(run)

    def _reader(self) -> apsw.Connection:
        connection: apsw.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = open_reader_connection(self.path, self._vfs)
            self._opened.append(connection)
        return connection

    def _committed(self, appends: Sequence[Append]) -> None:
        if self._writer.failed is not None:
            if not self._told:
                self._told = True
                self.on_failure(self._writer.failed)
            return
        for append in appends:
            if append.seq:
                self._tail.append(Entry(append.seq, append.event))
                self._tail_bytes += len(append.event.raw)
        if len(self._tail) > 2 * TAIL_EVENTS or self._tail_bytes > TAIL_BYTES:
            self._trim()
        for listener in self.on_commit:
            listener()

    def _trim(self) -> None:
        while len(self._tail) > TAIL_EVENTS or self._tail_bytes > TAIL_BYTES:
            gone = self._tail[: max(1, len(self._tail) // 2)]
            del self._tail[: len(gone)]
            self._tail_bytes -= sum(len(entry.event.raw) for entry in gone)
            self._tail_after = gone[-1].seq


def _seq(entry: Entry) -> int:
    return entry.seq
