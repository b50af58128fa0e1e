"""The database: a bounded pool of connections, and statements sent over them.

A statement goes to the driver's cursor through SQLAlchemy's pool and dialect, without its layers for results and
transactions: a look-up is one statement in a read-only session, and takes half the time without them.

SQLite runs in worker threads, with the synchronous driver of the standard library. A cancelled look-up leaves its
thread to finish, at most `statement_timeout` later. No task of a driver is left in the event loop.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

from gateway_databases import DatabaseFailed, file_of, forbidden_file, outdated
from sqlalchemy import URL, TextClause, create_engine, event
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.util import greenlet_spawn

from gateway_sql_values.sessions import MAX_ROWS, SESSIONS, prepare_session, truncated

T = TypeVar("T")
CLOSING: Final = 2.0
"""Seconds that the connections have to close gracefully."""


class Prepared(NamedTuple):
    """A statement in the driver's notation, and the names of its parameters: by position, in which a name may be
    repeated, or by name."""

    sql: str
    names: tuple[str, ...]
    by_position: bool = True

    def bind(self, values: Mapping[str, str | None]) -> Any:
        if self.by_position:
            return tuple([values[name] for name in self.names])
        return {name: values[name] for name in self.names}


class Rows(NamedTuple):
    """A statement's column names, and at most `MAX_ROWS` rows."""

    names: list[str]
    rows: Sequence[Sequence[Any]]


class DoubtfulRow(Exception):
    """MySQL matched a row by converting a text to a number, so it may be another customer's."""


class Database:
    """Connects when first used. Durations are in seconds. A connection that was idle for longer than `ping_after` is
    pinged before it is used, and one older than `recycle` is replaced."""

    def __init__(
        self,
        url: URL,
        *,
        pool_size: int,
        pool_timeout: float,
        statement_timeout: float,
        ping_after: float,
        recycle: float,
    ) -> None:
        self.kind = url.get_backend_name()
        options: dict[str, Any] = {
            "pool_size": pool_size,
            "max_overflow": -1,  # the semaphore bounds it, and waiting for that is cheap
            "pool_use_lifo": True,
            "pool_recycle": int(recycle),
            "hide_parameters": True,
        }
        if self.kind in SESSIONS:
            # A read-only session needs no transaction, which saves its round trips. Elsewhere a statement runs in a
            # transaction that is never committed.
            options |= {"isolation_level": "AUTOCOMMIT", "pool_reset_on_return": None}
        self._threads: ThreadPoolExecutor | None = None
        if self.kind == "sqlite":
            self._threads = ThreadPoolExecutor(pool_size, "sqlite")
            self.engine = create_engine(url, **options)
        else:
            self.engine = create_async_engine(url, **options).sync_engine
        self._free = asyncio.Semaphore(pool_size)
        self._pool_timeout = pool_timeout
        self._statement_timeout = statement_timeout
        self._ping_after = ping_after
        self._suspect_before = 0.0
        self._file = file_of(url)
        event.listen(self.engine, "do_connect", self._note_file)
        event.listen(self.engine, "connect", partial(prepare_session, self.kind, statement_timeout))
        event.listen(self.engine, "connect", partial(_stamp, "opened"))
        for moment in ("connect", "checkin"):
            event.listen(self.engine, moment, partial(_stamp, "used"))
        event.listen(self.engine, "checkout", self._look_at)

    def prepare(self, clause: TextClause) -> Prepared:
        """The statement as this database's driver takes it."""
        compiled: Any = clause.compile(dialect=self.engine.dialect)
        if compiled.positiontup is None:
            return Prepared(str(compiled), tuple(compiled.params), by_position=False)
        return Prepared(str(compiled), tuple(compiled.positiontup))

    async def fetch(self, statement: Prepared, values: Mapping[str, str | None]) -> Rows:
        """Run it. `DatabaseFailed` where that fails, `TimeoutError` where no connection comes free within
        `pool_timeout`, `DoubtfulRow` where the database matched a row loosely.

        A read may be repeated: where the connection turns out to be gone, a new one is tried once.
        """
        parameters = statement.bind(values)
        await self._connection_free()
        try:
            return await self._run(self._fetch, statement.sql, parameters)
        except DatabaseFailed as error:
            if not error.gone:
                raise
            return await self._run(self._fetch, statement.sql, parameters)
        finally:
            self._free.release()

    async def close(self) -> None:
        """Close the connections. Waits at most `CLOSING` seconds for the database."""
        closing = asyncio.ensure_future(self._run(self.engine.dispose))
        await asyncio.wait((closing,), timeout=CLOSING)
        if not closing.done():
            closing.cancel()
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)

    async def _run(self, work: Callable[..., T], *args: Any) -> T:
        """Run code that talks to the database without blocking the event loop."""
        if self._threads is None:
            return await greenlet_spawn(work, *args)
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *args)

    async def _connection_free(self) -> None:
        if self._free.locked():
            async with asyncio.timeout(self._pool_timeout):
                await self._free.acquire()
        else:
            await self._free.acquire()

    def _fetch(self, sql: str, parameters: Any) -> Rows:
        try:
            connection = self.engine.raw_connection()
        except Exception as error:
            if isinstance(error, PermissionError) and error.filename is None and self.kind == "postgresql":
                error.filename = forbidden_file(self.engine.url)
            raise DatabaseFailed(error, gone=False) from None
        try:
            connection.info["expires"] = time.monotonic() + self._statement_timeout
            cursor = connection.cursor()
            self.engine.dialect.do_execute(cursor, sql, parameters)
            found = Rows([column[0] for column in cursor.description or ()], cursor.fetchmany(MAX_ROWS))
            cursor.close()
            doubtful = bool(found.rows) and truncated(self.kind, connection)
        except Exception as error:
            raise self._failed(error, connection) from None
        except BaseException:  # cancelled while the database was answering
            connection.invalidate()
            raise
        connection.close()
        if doubtful:
            raise DoubtfulRow
        return found

    def _failed(self, error: Any, connection: Any) -> DatabaseFailed:
        dialect = self.engine.dialect
        sound = isinstance(error, dialect.loaded_dbapi.Error | UnicodeEncodeError)
        gone = not sound or outdated(error) or dialect.is_disconnect(error, connection.dbapi_connection, None)
        if gone:  # then those opened before it are most likely gone, too
            self._suspect_before = time.monotonic()
            connection.invalidate(error)
        else:
            connection.close()
        return DatabaseFailed(error, gone)

    def _note_file(self, dialect: Any, record: Any, arguments: Any, options: Any) -> None:
        """Runs before a connection is made, so that a file replaced in between is noticed."""
        record.info["file"] = _identity(self._file)

    def _look_at(self, connection: Any, record: Any, proxy: Any) -> None:
        """Runs before a connection is used: one that may be dead is pinged, one that is outdated is replaced."""
        info = record.info
        if info["opened"] < self._suspect_before or info["file"] != _identity(self._file):
            raise DisconnectionError
        if time.monotonic() - info["used"] <= self._ping_after:
            return
        try:
            alive = self.engine.dialect.do_ping(connection)
        except Exception as error:
            raise DisconnectionError from error
        if not alive:
            raise DisconnectionError


def _identity(path: Path | None) -> tuple[int, int] | None:
    """Device and inode of the file at this path; None where there is none."""
    if path is None:
        return None
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _stamp(moment: str, connection: Any, record: Any) -> None:
    record.info[moment] = time.monotonic()
