"""A connection that only reads, for code that is not asynchronous. Each statement stands for itself: a search that is
read slowly keeps no transaction open."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

import asyncpg

from gateway.config.tables import Config
from gateway.journal.postgresql.connection import DatabaseConnection, connect
from gateway.journal.postgresql.failures import translated
from gateway.journal.postgresql.layout import LAYOUT, require_journal
from gateway.journal.postgresql.tables import MARKER
from gateway.journal.search import SearchTooSlow

T = TypeVar("T")
CLOSE_SECONDS: Final = 5.0
_TOO_SLOW: Final = "the search took too long; give it fewer events to read, for example with since"


class Reading:
    """One connection, used by one thread at a time in which no event loop runs."""

    def __init__(self, config: Config, purpose: str = "search", copying: bool = False) -> None:
        """`JournalError` where the database cannot be reached, or has no journal. With `copying`, the connection may
        write, and it does not matter what is there."""
        self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        self._end: float | None = None
        try:
            self._connection = self._runner.run(self._open(config, purpose, copying))
        except BaseException:
            self._runner.close()
            raise

    async def _open(self, config: Config, purpose: str, copying: bool) -> DatabaseConnection:
        connection = await connect(config, purpose, to_read=not copying)
        try:
            with translated():
                if not copying:
                    await _require_journal(connection)
        except BaseException:
            connection.terminate()
            raise
        return connection

    def limit(self, seconds: float) -> None:
        """From now on, reading for longer than this in all is `SearchTooSlow`."""
        self._end = time.monotonic() + seconds
        self.rows(f"SELECT set_config('statement_timeout', '{max(1, round(seconds * 1000))}ms', false)")

    def rows(self, sql: str, *values: object) -> list[asyncpg.Record]:
        """All rows of a query. `JournalError`, or `SearchTooSlow` where there is a limit."""
        return self.run(self._connection.fetch(sql, *values, timeout=self._left()))

    def value(self, sql: str, *values: object) -> Any:
        """The first column of the first row of a query, or None. Raises as `rows` does."""
        return self.run(self._connection.fetchval(sql, *values, timeout=self._left()))

    def execute(self, sql: str) -> None:
        """Run statements that return nothing. Raises as `rows` does."""
        self.run(self._connection.execute(sql, timeout=self._left()))

    @property
    def connection(self) -> DatabaseConnection:
        """For work that `run` gets."""
        return self._connection

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """What asynchronous work on the connection returns. Raises as `rows` does."""
        return self._runner.run(self._named(work))

    async def _named(self, work: Coroutine[Any, Any, T]) -> T:
        with translated():
            try:
                return await work
            except Exception as error:
                if self._end is not None and _is_timeout(error):
                    raise SearchTooSlow(_TOO_SLOW) from None
                raise

    def _left(self) -> float | None:
        if self._end is None:
            return None
        left = self._end - time.monotonic()
        if left <= 0:
            raise SearchTooSlow(_TOO_SLOW)
        return left

    def close(self) -> None:
        """Close the connection. Always call it."""
        try:
            self._runner.run(self._close())
        finally:
            self._runner.close()

    async def _close(self) -> None:
        try:
            await self._connection.close(timeout=CLOSE_SECONDS)
        except Exception:  # the connection is lost, or does not answer
            self._connection.terminate()


async def _require_journal(connection: DatabaseConnection) -> None:
    """`JournalError` where the database has no journal of the current layout, or of the next one: while gateways are
    upgraded one by one, the older ones go on to answer searches. In one statement where it has."""
    with contextlib.suppress(asyncpg.UndefinedTableError):
        layout = await connection.fetchval(f"SELECT layout FROM {MARKER} WHERE copy_of IS NULL")
        if layout in (LAYOUT, LAYOUT + 1):
            return
    await require_journal(connection)


def _is_timeout(error: Exception) -> bool:
    """Whether the server or the driver gave up a statement for its time."""
    return isinstance(error, TimeoutError) or getattr(error, "sqlstate", None) == "57014"
