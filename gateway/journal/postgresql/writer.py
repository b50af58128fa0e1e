"""Group commit over one connection. Everything that arrived while a commit ran goes into the next one, so a lone event
does not wait for others. A commit is never cancelled."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from gateway.journal.append import Append
from gateway.journal.commits import Commits
from gateway.journal.interface import JournalError, JournalFailed, Receipt
from gateway.journal.postgresql.connection import DatabaseConnection
from gateway.journal.postgresql.database import TRIES
from gateway.journal.postgresql.durability import durable
from gateway.journal.postgresql.failures import AGAIN, DRIVER, DatabaseLost, ValueRefused, meaning
from gateway.journal.postgresql.insert import Appending, insert, kept_of
from gateway.journal.postgresql.promotion import on_the_primary
from gateway.journal.postgresql.refusing import Refusals

if TYPE_CHECKING:
    from gateway.config.tables import Config

log = logging.getLogger("gateway.journal")

ROWS: Final = 1000
BYTES: Final = 16 * 2**20
"""A group has at most these, but for a larger body alone."""
IN_DOUBT: Final = 10.0
"""Seconds for which the senders of a group whose commit was not answered wait for a connection."""
PAUSES: Final = (0.05, 0.1, 0.2, 0.5)
"""Seconds between tries to connect; the last one goes on."""
LOST_CONNECTION: Final = "the connection to the database was lost"
_ERRORS: Final = (*DRIVER, JournalError)


class LastKept(NamedTuple):
    """An event that was answered as kept."""

    seq: int
    id: str


class AppendWriter:
    """Owns the connection that appends. `reconnect` opens and checks one, and gets the last event that was answered as
    kept; it raises `JournalFailed` where the database is
    not the journal's any more. `committed` gets the newest position after each commit."""

    def __init__(
        self,
        config: Config,
        reconnect: Callable[[LastKept | None], Awaitable[DatabaseConnection]],
        channel: str,
        commits: Commits,
        committed: Callable[[int], None],
    ) -> None:
        self.refusing = Refusals()
        self.failed: JournalFailed | None = None
        self.closed = False
        self.reconnecting = False
        self._config = config
        self._several = config.journal.url is not None and len(config.journal.url.each) > 1
        self._reconnect = reconnect
        self._commits = commits
        self._committed = committed
        window = int(config.journal.dedupe_window * 1_000_000)
        self._appending = Appending(config.node.name, window, channel, config.journal.require_standby)
        self._queue: deque[Append] = deque()
        self._last: LastKept | None = None
        self._wake = asyncio.Event()
        self._writing_since: float | None = None
        self._connection: DatabaseConnection | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def refusal(self) -> str | None:
        """Why new events cannot be kept now, or None."""
        if self.failed is not None:
            return str(self.failed)
        if self.closed:
            return "the journal is closed"
        since = self._writing_since
        return (None if since is None else self.refusing.hangs(since)) or self.refusing.reason

    def start(self, connection: DatabaseConnection) -> None:
        """Begin with a connection that was checked."""
        self._use(connection)
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Commit what is queued, then end. Cancelled, it leaves the commit alone."""
        self.closed = True
        self._wake.set()
        if self._task is not None:
            await asyncio.shield(self._task)
        if self._connection is not None:
            with contextlib.suppress(*_ERRORS):
                await self._connection.close(timeout=1)

    def put(self, append: Append) -> None:
        """Append an event with the next commit."""
        self._queue.append(append)
        self._wake.set()

    async def _run(self) -> None:
        while self._queue or not self.closed:
            if self.failed is not None and self._queue:
                self._answer(self._next(), self.failed)
            elif self.failed is None and (self._queue or self._is_lost()):
                await self._guarded_commit(self._next() if self._queue else [])
            else:
                self._wake.clear()
                await self._wake.wait()

    async def _guarded_commit(self, group: list[Append]) -> None:
        """Commit. An error that is not foreseen is answered to each sender, and ends the journal."""
        try:
            await self._commit(group)
        except Exception as error:
            log.critical("journal: internal error", exc_info=error)
            failed = JournalFailed(f"the gateway failed as it appended ({type(error).__name__}); its log has more")
            self.fail(failed)
            self._answer(group, failed)

    def leave_server(self) -> None:
        """Another server is the primary: give the connection up, and look up there what became of its commit."""
        if self._connection is not None:
            self._connection.terminate()

    def _is_lost(self) -> bool:
        return self._connection is None or self._connection.is_closed()

    def _ended(self, connection: object) -> None:
        if connection is self._connection:
            self._wake.set()

    def _next(self) -> list[Append]:
        group, size = [self._queue.popleft()], 0
        size = len(group[0].event.raw)
        while self._queue and len(group) < ROWS:
            size += len(self._queue[0].event.raw)
            if size > BYTES:
                break
            group.append(self._queue.popleft())
        return group

    async def _commit(self, group: list[Append]) -> None:
        """Commit a group and answer it. An empty one only connects again."""
        answer_by, repeats = None, 0
        while True:
            try:
                if self._connection is None or self._is_lost():
                    raise DatabaseLost(LOST_CONNECTION)
                newest = await self._insert(self._connection, group)
            except DatabaseLost as error:
                if answer_by is None:
                    answer_by = time.monotonic() + IN_DOUBT
                elif time.monotonic() >= answer_by:
                    self._answer(group, error)
                    group = []
                else:
                    await self._pause(PAUSES[0])
                group = await self._in_doubt(group, error, answer_by)
                if not group:
                    return
            except ValueRefused as error:
                if len(group) == 1:
                    log.error("journal: cannot keep an event, which gets 503: %s", error)
                    self._answer(group, error)
                else:  # the others do without the one
                    await self._commit(group[: len(group) // 2])
                    await self._commit(group[len(group) // 2 :])
                return
            except JournalError as error:
                repeats += 1
                if isinstance(error.__cause__, AGAIN) and repeats < TRIES:
                    continue  # nothing was committed
                self.refusing.refuse(str(error))
                self._answer(group, error)
                return
            else:
                if answer_by is not None:
                    self.refusing.take()
                self._kept(group, newest)
                return

    async def _insert(self, connection: DatabaseConnection, group: Sequence[Append]) -> int:
        self._writing_since = since = time.monotonic()
        try:
            appended = insert(connection, group, self._appending)
            commit = durable(connection, appended, self._appending.need_standby)
            newest = await (on_the_primary(self._config, connection, commit) if self._several else commit)
        except _ERRORS as error:
            raise meaning(error) from error
        finally:
            self._writing_since = None
            self.refusing.finished(since)
        self._commits.observe(len(group), time.monotonic() - since)
        return newest

    def _kept(self, group: Sequence[Append], newest: int) -> None:
        for append in group:
            _tell(append, append.receipt)
        self._last = next((LastKept(one.seq, one.event.id) for one in reversed(group) if one.seq), self._last)
        self._committed(newest)

    def _answer(self, group: Sequence[Append], error: JournalError) -> None:
        for append in group:
            _tell(append, error)

    async def _in_doubt(self, group: list[Append], error: JournalError, answer_by: float) -> list[Append]:
        """The connection was lost with this group. Connect again, and answer by what the journal has of it. Returns
        what is to be committed: those that it does not have, or nothing where senders were told to try again."""
        self.refusing.refuse(str(error))
        self.reconnecting = True
        tries = 0
        while self.failed is None:
            while self._queue:
                self._answer(self._next(), error)  # never sent
            try:
                left = await self._look_up(await self._reconnected(), group)
            except JournalFailed as failed:
                self.fail(failed)
            except JournalError as again:
                error = again
                self.refusing.refuse(str(error))
                if time.monotonic() >= answer_by or self.closed:
                    self._answer(group, error)
                    group = []
                if self.closed:
                    break
                await self._pause(PAUSES[min(tries, len(PAUSES) - 1)])
                tries += 1
            else:
                self.reconnecting = False
                if isinstance(error, DatabaseLost) and not left:
                    self.refusing.take()  # where that was not the reason, the journal looks again by itself
                return left
        self.reconnecting = False
        if self.failed is not None:
            self._answer(group, self.failed)
        return []

    async def _reconnected(self) -> DatabaseConnection:
        if self._connection is not None:
            self._connection.terminate()
        connection = await self._reconnect(self._last)
        self._use(connection)
        return connection

    def _use(self, connection: DatabaseConnection) -> None:
        self._connection = connection
        connection.add_termination_listener(self._ended)

    async def _look_up(self, connection: DatabaseConnection, group: list[Append]) -> list[Append]:
        """Answer those that are kept; returns the others."""
        if not group:
            return []
        try:
            kept = await durable(connection, kept_of(connection, group), self._appending.need_standby)
        except _ERRORS as error:
            raise meaning(error) from error
        self._kept([append for append in group if append.event.id in kept], 0)
        return [append for append in group if append.event.id not in kept]

    async def _pause(self, seconds: float) -> None:
        """Wait; a journal that is closed ends the wait."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not self.closed:
                    self._wake.clear()
                    await self._wake.wait()

    def fail(self, error: JournalFailed) -> None:
        """The journal takes nothing any more."""
        if self.failed is None:
            self.failed = error
            log.critical("journal: %s", error)
            self._wake.set()
            self._committed(0)


def _tell(append: Append, outcome: Receipt | JournalError) -> None:
    """Answer an event, once."""
    done, append.done = append.done, _answered
    done(outcome)


def _answered(outcome: Receipt | JournalError) -> None:
    """The event has its answer."""
