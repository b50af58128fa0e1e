"""The database: a bounded pool of connections, and statements sent over them.

A statement goes to the driver's cursor through SQLAlchemy's pool and dialect, without its layers for results and
transactions: a look-up is one statement of a read-only session, and takes half the time without them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

from sqlalchemy import URL, event
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.util import greenlet_spawn

from gateway_sql_values.database_url import file_of
from gateway_sql_values.failures import DatabaseFailed, DoubtfulRow, outdated
from gateway_sql_values.sessions import MAX_ROWS, SESSIONS, prepare_session, truncated
from gateway_sql_values.statement import Statement

CLOSING: Final = 2.0
"""Seconds that the connections have to close in good order."""


class Prepared(NamedTuple):
    """A statement in the driver's own words, and its parameters: by place (repeated as it wants them) or by name."""

    sql: str
    names: tuple[str, ...]
    by_place: bool = True

    def bind(self, values: Mapping[str, str | None]) -> Any:
        if self.by_place:
            return tuple([values[name] for name in self.names])
        return {name: values[name] for name in self.names}


class Rows(NamedTuple):
    """A statement's column names, and at most `MAX_ROWS` rows."""

    names: list[str]
    rows: Sequence[Sequence[Any]]


class Database:
    """Connects when first used. Durations are in seconds; a connection that was idle for longer than `ping_after` is
    asked whether it still lives, and one older than `recycle` is replaced."""

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
        # Where sessions are read-only a statement stands alone: no round trips for a transaction around it.
        # Elsewhere it runs in a transaction that is never committed.
        alone: dict[str, Any] = {"isolation_level": "AUTOCOMMIT", "pool_reset_on_return": None}
        self.engine = create_async_engine(
            url,
            pool_size=pool_size,
            max_overflow=-1,  # the semaphore bounds it, and waiting for that is cheap
            pool_use_lifo=True,
            pool_recycle=int(recycle),
            hide_parameters=True,
            **(alone if self.kind in SESSIONS else {}),
        ).sync_engine
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

    def prepare(self, statement: Statement) -> Prepared:
        """The statement as this database's driver takes it."""
        compiled: Any = statement.clause.compile(dialect=self.engine.dialect)
        if compiled.positiontup is None:
            return Prepared(str(compiled), tuple(statement.parameters), by_place=False)
        return Prepared(str(compiled), tuple(compiled.positiontup))

    async def fetch(self, statement: Prepared, values: Mapping[str, str | None]) -> Rows:
        """Run it. `DatabaseFailed` says why not, `TimeoutError` that no connection came free, `DoubtfulRow` that
        what it found is nobody's.

        Reading may be repeated: a connection that turns out to be gone costs a second try, not the answer.
        """
        parameters = statement.bind(values)
        await self._connection_free()
        try:
            return await greenlet_spawn(self._fetch, statement.sql, parameters)
        except DatabaseFailed as error:
            if not error.gone:
                raise
            return await greenlet_spawn(self._fetch, statement.sql, parameters)
        finally:
            self._free.release()

    async def close(self) -> None:
        """Close the connections; a database that does not answer holds up nothing."""
        closing = asyncio.ensure_future(greenlet_spawn(self.engine.dispose))
        await asyncio.wait((closing,), timeout=CLOSING)
        if not closing.done():
            closing.cancel()

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
        except BaseException:  # cancelled in the middle of an answer
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
        if gone:  # and so are most likely all that were opened before
            self._suspect_before = time.monotonic()
            connection.invalidate(error)
        else:
            connection.close()
        return DatabaseFailed(error, gone)

    def _note_file(self, dialect: Any, record: Any, arguments: Any, options: Any) -> None:
        """Before it is opened, so that one that is replaced meanwhile is noticed."""
        record.info["file"] = _identity(self._file)

    def _look_at(self, connection: Any, record: Any, proxy: Any) -> None:
        """Before a connection is used: one that may be dead is asked, or replaced at once."""
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
    """Which file the path names just now; None where it names none."""
    if path is None:
        return None
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _stamp(moment: str, connection: Any, record: Any) -> None:
    record.info[moment] = time.monotonic()
