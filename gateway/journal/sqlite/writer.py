"""Group commit: one thread writes. Everything that arrived while a commit ran goes into the next one, so a lone event
does not wait for others."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import apsw

from gateway.config.tables import Config
from gateway.journal.append import Append
from gateway.journal.commits import Commits
from gateway.journal.damage import Damage, event_at
from gateway.journal.erasing import Retention
from gateway.journal.interface import JournalError, JournalFailed, JournalFull
from gateway.journal.sqlite.checksum import SOUND
from gateway.journal.sqlite.connection import WriteAheadLog
from gateway.journal.sqlite.insert import insert
from gateway.journal.sqlite.progress import Marks, expire_marks
from gateway.journal.sqlite.refusing import Refusing
from gateway.journal.sqlite.retention import expire_records, prune
from gateway.journal.sqlite.space import identities, shortage
from gateway.journal.sqlite.wiping import SECONDS, STILL_READ, Wiping
from gateway.journal.sqlite.work import Operate, Work, WorkQueue

log = logging.getLogger("gateway.journal")

MARKS: Final = 100
"""Marks of one cursor that a look at retention deletes, at most."""
HOUSEKEEPING: Final = 0.5
"""Seconds between two checks of free space, retention and the write-ahead log."""


class Limits:
    """What the writer watches: times in microseconds, sizes in bytes."""

    def __init__(self, config: Config) -> None:
        self.retention = Retention.of(config)
        self.value_record_retention = int(config.values.audit_retention * 1_000_000)
        self.window = int(config.journal.dedupe_window * 1_000_000)
        self.max_size = config.journal.max_size
        self.min_free = config.journal.min_free


class Writer:
    """Owns the connection that writes."""

    def __init__(
        self,
        connection: apsw.Connection,
        path: Path,
        limits: Limits,
        committed: Callable[[Sequence[Append]], None],
        clock: Callable[[], float],
        damage: Damage,
        commits: Commits,
    ) -> None:
        self._refusing = Refusing(path)
        self._writing_since: float | None = None
        self.failed: JournalFailed | None = None
        self._connection = connection
        self._path = path
        self._limits = limits
        self._damage = damage
        self._commits = commits
        self._committed = committed
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._queue = WorkQueue(self._loop)
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._last_seq = self._highest()
        self._files = identities(path)
        self._closed = False
        self._full = False
        self._wal = WriteAheadLog(connection)
        self._next_look = 0.0
        self._pruned_to = 0
        self._wipes = False
        self.marks = Marks()
        self._hindered: str | None = None
        self._wiping = Wiping(connection, self._wal, path)

    @property
    def refusal(self) -> str | None:
        """Why new events cannot be kept now, or None."""
        since = self._writing_since
        hangs = None if since is None or self.failed is not None else self._refusing.hangs(since)
        return hangs or self._refusing.reason

    @property
    def last_seq(self) -> int:
        return self._last_seq

    def start(self) -> None:
        self._thread.start()

    def put(self, work: Append | Operate) -> None:
        if self._closed:
            raise JournalFull("the journal is closed")
        self._queue.put(work)

    async def wipe(self) -> None:
        """See `wiping`; `JournalError` where that is not possible, or a step of it not within `SECONDS`."""
        wiped, steps = self._wiping.ask(), -1
        self.put(Operate(lambda connection: None, self._loop.create_future()))  # wakes the thread
        while not wiped.done():
            if steps == self._wiping.steps:
                raise JournalError(STILL_READ)
            steps = self._wiping.steps
            await asyncio.wait([wiped], timeout=SECONDS)
        wiped.result()

    async def stop(self) -> None:
        """Commit what is queued, then end the thread."""
        self._closed = True
        self._queue.end()
        await asyncio.to_thread(self._thread.join)

    def _highest(self) -> int:
        # A journal that retention has emptied must not reuse positions: cursors stand past them.
        [(highest,)] = self._connection.execute(
            "SELECT max((SELECT coalesce(max(seq), 0) FROM events),"
            f" (SELECT coalesce(max(max(seq, begins)), 0) FROM cursors WHERE {SOUND['cursors']}),"
            " coalesce((SELECT value FROM meta WHERE key = 'erased up to'), 0))"
        )
        return int(highest)

    def _run(self) -> None:
        going = True
        while going:
            work, going = self._queue.gather(HOUSEKEEPING if self._next_look and not self._wipes else 0)
            if work:
                self._commit(work)
            if going and self.failed is None:
                self._housekeeping(idle=not work)
        if self.failed is None:
            with contextlib.suppress(apsw.Error), self._connection:
                self.marks.keep(self._connection, self._clock(), last=True)

    def _commit(self, work: list[Work]) -> None:
        appends = [item for item in work if type(item) is Append]
        operations = [item for item in work if type(item) is Operate]
        error: JournalError | None = self.failed
        if error is None:
            self._writing_since = since = time.monotonic()
            error = self._transaction(appends, operations)
            self._writing_since = None
            if appends and error is None:
                self._commits.observe(len(appends), time.monotonic() - since)
            self._refusing.finished(since)
        try:
            self._loop.call_soon_threadsafe(self._resolve, appends, operations, error)
        except RuntimeError:  # the loop is closed: no caller waits for the answer
            return

    def _transaction(self, appends: list[Append], operations: list[Operate]) -> JournalError | None:
        connection = self._connection
        committing = False
        try:
            connection.execute("BEGIN IMMEDIATE")
            if appends:
                insert(connection, appends, self._last_seq + 1, self._limits.window, self._damaged)
            for operation in operations:
                operation.attempt(connection)
            self._wal.number()
            committing = True
            connection.execute("COMMIT")
        except Exception as error:
            return self._undo(error, committing)
        self._last_seq = next((append.seq for append in reversed(appends) if append.seq), self._last_seq)
        return None

    def _damaged(self, seq: int) -> None:
        self._damage.found(event_at(seq))

    def _undo(self, error: Exception, committing: bool) -> JournalError:
        """Roll back. Where it is certain that nothing was kept, callers may try again; else the journal failed."""
        harmless = isinstance(error, apsw.FullError | apsw.BusyError | apsw.LockedError)
        try:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
        except apsw.Error:
            harmless = False
        if harmless or (not committing and isinstance(error, apsw.IOError)):
            self._full = True
            return JournalFull(self._refusing.cannot_write(error))
        kind = type(error).__name__
        return self._fail(f"a commit to the journal failed ({kind}: {error}); what became of it is unknown")

    def _fail(self, sentence: str) -> JournalFailed:
        self.failed = JournalFailed(sentence)
        self._refusing.reason = sentence
        log.critical("journal: %s", sentence)
        return self.failed

    def _resolve(self, appends: list[Append], operations: list[Operate], error: JournalError | None) -> None:
        if error is not None:
            for append in appends:
                append.done(error)
            for operation in operations:
                if not operation.future.done():
                    operation.future.set_exception(error)
            if isinstance(error, JournalFailed):
                self._committed(())
            return
        for append in appends:
            append.done(append.receipt)
        for operation in operations:
            if operation.future.done():
                continue
            if operation.error is not None:
                operation.future.set_exception(operation.error)
            else:
                operation.future.set_result(operation.result)
        if appends:
            self._committed(appends)

    def _housekeeping(self, idle: bool) -> None:
        try:
            self._shorten(idle=False)
            self._wipes = self._wiping.work()
            now = time.monotonic()
            if now < self._next_look:
                return
            self._next_look = now + HOUSEKEEPING
            if identities(self._path) != self._files:
                raise JournalError("its files were moved or deleted; newer events are not in the files at that path")
            self._look_at_space()
            if not self._full:
                self._prune()
            self._shorten(idle)
        except (apsw.FullError, apsw.BusyError, apsw.LockedError) as error:
            kind = type(error).__name__
            if kind != self._hindered:
                log.error("journal: retention or a checkpoint cannot be written: %s; trying again", kind)
            self._hindered = kind
        except Exception as error:
            failed = self._fail(f"maintenance of the journal failed ({type(error).__name__}: {error})")
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._resolve, [], [], failed)

    def _shorten(self, idle: bool) -> None:
        if self._wal.keep_short(idle):
            self._hindered = None

    def _look_at_space(self) -> None:
        if self._full:
            try:
                with self._connection:
                    self._connection.execute("INSERT OR REPLACE INTO meta VALUES ('probe', ?)", (self._clock(),))
                    self._wal.number()
            except apsw.Error:
                return
            self._full = False
        self._refusing.refuse(shortage(self._connection, self._path, self._limits.min_free, self._limits.max_size))

    def _prune(self) -> None:
        now = int(self._clock() * 1_000_000)
        with self._connection:
            self._pruned_to, more = prune(self._connection, now, self._limits.retention, self._pruned_to)
            more_records = expire_records(self._connection, now - self._limits.value_record_retention)
            self._wal.number()
            self.marks.keep(self._connection, now / 1_000_000)
            expire_marks(self._connection, (now - self._limits.retention.default) / 1_000_000, MARKS)
        if more or more_records:
            self._next_look = 0.0
