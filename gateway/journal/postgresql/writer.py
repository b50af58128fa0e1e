"""Group commit over one connection. Everything that arrived while a commit ran goes into the next one, so a lone event
does not wait for others. A commit is never cancelled."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from gateway.journal.append import Append
from gateway.journal.commits import Commits
from gateway.journal.interface import JournalError, JournalFailed
from gateway.journal.postgresql.connection import DatabaseConnection, connect
from gateway.journal.postgresql.durability import durable
from gateway.journal.postgresql.failures import DRIVER, DatabaseLost, ValueRefused, meaning
from gateway.journal.postgresql.insert import Appending, insert, kept_of
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
LOOK_AROUND: Final = 2.0
"""Seconds that a commit may take before the other hosts are asked who is the primary."""
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
        """Commit what is queued, then end."""
        self.closed = True
        self._wake.set()
        if self._task is not None:
            await self._task
        if self._connection is not None:
            with contextlib.suppress(*_ERRORS):
                await self._connection.close(timeout=1)

    def put(self, append: Append) -> None:
        """Append an event with the next commit."""
        self._queue.append(append)
        self._wake.set()

    async def _run(self) -> None:
        while self._queue or not self.closed:
            if not self._queue and self.failed is None and self._is_lost():
                await self._in_doubt([], DatabaseLost(LOST_CONNECTION))
            elif not self._queue:
                self._wake.clear()
                await self._wake.wait()
            elif self.failed is None:
                await self._commit(self._next())
            else:
                self._answer(self._next(), self.failed)

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
        try:
            if self._connection is None or self._is_lost():
                raise DatabaseLost(LOST_CONNECTION)
            newest = await self._insert(self._connection, group)
        except DatabaseLost as error:
            await self._in_doubt(group, error)
        except ValueRefused as error:
            if len(group) == 1:
                log.error("journal: cannot keep an event, which gets 503: %s", error)
                self._answer(group, error)
            else:  # the others do without the one
                await self._commit(group[: len(group) // 2])
                await self._commit(group[len(group) // 2 :])
        except JournalError as error:
            self.refusing.refuse(str(error))
            self._answer(group, error)
        else:
            self._kept(group, newest)

    async def _insert(self, connection: DatabaseConnection, group: Sequence[Append]) -> int:
        self._writing_since = since = time.monotonic()
        try:
            appended = insert(connection, group, self._appending)
            newest = await self._on_the_primary(connection, durable(connection, appended, self._appending.need_standby))
        except _ERRORS as error:
            raise meaning(error) from error
        finally:
            self._writing_since = None
            self.refusing.finished(since)
        self._commits.observe(len(group), time.monotonic() - since)
        return newest

    async def _on_the_primary(self, connection: DatabaseConnection, commit: Coroutine[Any, Any, int]) -> int:
        """Wait for a commit; of several hosts, only as long as no other one has become the primary. What became of the
        commit is then looked up there."""
        if not self._several:
            return await commit
        task = asyncio.create_task(commit)
        while not (await asyncio.wait((task,), timeout=LOOK_AROUND))[0]:
            if await self._is_superseded(connection):
                connection.terminate()
        return await task

    async def _is_superseded(self, connection: DatabaseConnection) -> bool:
        try:
            other = await connect(self._config, "look")
        except JournalError:
            return False
        other.terminate()
        return other.timeline > connection.timeline

    def _kept(self, group: Sequence[Append], newest: int) -> None:
        for append in group:
            append.done(append.receipt)
        self._last = next((LastKept(one.seq, one.event.id) for one in reversed(group) if one.seq), self._last)
        self._committed(newest)

    def _answer(self, group: Sequence[Append], error: JournalError) -> None:
        for append in group:
            append.done(error)

    async def _in_doubt(self, group: Sequence[Append], error: JournalError) -> None:
        """The connection was lost with this group. Connect again, and answer by what the journal has of it."""
        self.refusing.refuse(str(error))
        self.reconnecting = True
        while self._queue:
            self._answer(self._next(), error)  # never sent
        answer_by = time.monotonic() + IN_DOUBT
        tries = 0
        while self.failed is None:
            try:
                connection = await self._reconnected()
                await self._look_up(connection, group)
                break
            except JournalFailed as failed:
                self.fail(failed)
            except JournalError as again:
                self.refusing.refuse(str(again))
                if time.monotonic() >= answer_by or self.closed:
                    self._answer(group, again)
                    group = ()
                if self.closed:
                    return
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(PAUSES[min(tries, len(PAUSES) - 1)]):
                        await self._closing()
                tries += 1
        self.reconnecting = False
        if self.failed is not None:
            self._answer(group, self.failed)

    async def _reconnected(self) -> DatabaseConnection:
        if self._connection is not None:
            self._connection.terminate()
        connection = await self._reconnect(self._last)
        self._use(connection)
        return connection

    def _use(self, connection: DatabaseConnection) -> None:
        self._connection = connection
        connection.add_termination_listener(self._ended)

    async def _look_up(self, connection: DatabaseConnection, group: Sequence[Append]) -> None:
        newest = 0
        if group:
            try:
                kept = await durable(connection, kept_of(connection, group), self._appending.need_standby)
            except _ERRORS as error:
                raise meaning(error) from error
            left = [append for append in group if append.event.id not in kept]
            if left:
                newest = await self._insert(connection, left)
        self.refusing.take()
        self._kept(group, newest)

    async def _closing(self) -> None:
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
