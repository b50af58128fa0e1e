"""The journal's connections for everything but appends: a few that are kept open, and the rules for their use."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Concatenate, Final, ParamSpec, TypeVar

from gateway.config.tables import Config
from gateway.journal.interface import JournalError, JournalFull
from gateway.journal.postgresql.connection import DatabaseConnection, connect
from gateway.journal.postgresql.failures import AGAIN, DatabaseFull, DatabaseLost, translated

T = TypeVar("T")
P = ParamSpec("P")
CONNECTIONS: Final = 4
"""Open at the same time, at most."""
TRIES: Final = 5
"""Of a transaction that PostgreSQL asks to repeat."""
LOCAL_ONLY: Final = "the database kept that without its synchronous standby: the wait for it was interrupted"


class KeptLocally(JournalFull):
    """What was committed may be lost with the server: the wait for its standby was interrupted."""


class Database:
    """Runs statements. Once `failed` is set, it raises this. `troubled` is called where the disk is full. Once
    `timeline` is set, only servers of this one are used; `moved` is called where the primary is of a later one."""

    def __init__(self, config: Config) -> None:
        self.failed: JournalError | None = None
        self.troubled: Callable[[DatabaseFull], None] = lambda error: None
        self.timeline: int | None = None
        self.moved: Callable[[], None] = lambda: None
        self._config = config
        self._idle: list[DatabaseConnection] = []
        self._used: set[DatabaseConnection] = set()
        self._room = asyncio.Semaphore(CONNECTIONS)
        self._running: set[asyncio.Task[object]] = set()

    async def close(self) -> None:
        """Wait for what runs, then close the connections."""
        self.failed = self.failed or JournalFull("the journal is closed")
        while self._running:
            await asyncio.wait(self._running)
        while self._idle:
            with contextlib.suppress(Exception):
                await self._idle.pop().close(timeout=1)

    def drop_idle(self) -> None:
        """Close the connections that are not in use: the database that they lead to is not the right one any more."""
        while self._idle:
            self._idle.pop().terminate()

    def move_to(self, timeline: int) -> None:
        """Close all connections, also those that are in use: the primary is another server now, and the former one may
        never answer."""
        self.timeline = timeline
        self.drop_idle()
        for connection in self._used:
            connection.terminate()

    async def operate(
        self, run: Callable[Concatenate[DatabaseConnection, P], Awaitable[T]], *values: P.args, **named: P.kwargs
    ) -> T:
        """Run something in one transaction; its result once that is durable. With `DatabaseLost` and `KeptLocally` it
        may be kept or not: what `run` does can be repeated without harm, or the caller looks it up. With another
        `JournalError` nothing was kept. Neither the transaction nor its commit is cancelled with the caller. `run` may
        be called several times."""
        if self.failed is not None:
            raise self.failed

        async def work() -> T:
            for left in reversed(range(TRIES)):
                try:
                    async with self.connection() as connection:
                        connection.local_only = False
                        async with connection.transaction():
                            result = await run(connection, *values, **named)
                        if connection.local_only:
                            raise KeptLocally(LOCAL_ONLY)
                        return result
                except JournalFull as error:
                    if isinstance(error, DatabaseFull):
                        self.troubled(error)
                    if not left or not isinstance(error.__cause__, AGAIN):
                        raise
            raise AssertionError

        task: asyncio.Task[T] = asyncio.create_task(work())
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return await asyncio.shield(task)

    async def query(
        self, run: Callable[Concatenate[DatabaseConnection, P], Awaitable[T]], *values: P.args, **named: P.kwargs
    ) -> T:
        """Run something that only reads, of which each statement sees what was committed before it."""
        if self.failed is not None:
            raise self.failed
        async with self.connection() as connection:
            return await run(connection, *values, **named)

    @contextlib.asynccontextmanager
    async def connection(self) -> AsyncIterator[DatabaseConnection]:
        """One of the connections, for as long as the block runs; errors of the database become `JournalError`s."""
        async with self._room:
            while self._idle and self._idle[-1].is_closed():
                self._idle.pop()
            connection = self._idle.pop() if self._idle else await self._connected()
            self._used.add(connection)
            try:
                with translated():
                    yield connection
            except BaseException as error:
                usable = isinstance(error, Exception) and not isinstance(error, asyncio.CancelledError)
                if not usable or connection.is_closed() or connection.is_in_transaction():
                    connection.terminate()
                else:
                    self._idle.append(connection)
                if isinstance(error, DatabaseLost):
                    self.drop_idle()
                raise
            else:
                self._idle.append(connection)
            finally:
                self._used.discard(connection)

    async def _connected(self) -> DatabaseConnection:
        made = await connect(self._config, "journal")
        if self.timeline in (None, made.timeline):
            return made
        made.terminate()
        if made.timeline > (self.timeline or 0):
            self.moved()
        raise DatabaseLost("another server has become the primary of the database")
