"""Transactions on the database, without blocking the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

from gateway_databases import DatabaseFailed, forbidden_file
from sqlalchemy import URL, Connection, NullPool, create_engine, event
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from gateway_sql_events.table import MYSQL

T = TypeVar("T")
_CLOSING: Final = 2.0
"""Seconds that the connections have to close gracefully."""
_RECYCLE: Final = 1800
_CONNECTIONS: Final = 2
"""One writes events, the other erases."""


class Database:
    """Connects when first used. `timeout` is in seconds, for a transaction."""

    def __init__(self, url: URL, timeout: float) -> None:
        self.kind = url.get_backend_name()
        self._url = url
        self._timeout = timeout
        self._threads: ThreadPoolExecutor | None = None
        self._async: AsyncEngine | None = None
        if self.kind == "sqlite":  # its driver has no async form; a new connection for each transaction costs little
            self._threads = ThreadPoolExecutor(_CONNECTIONS, "sqlite")
            arguments: dict[str, Any] = {"timeout": timeout, "check_same_thread": False}
            self._engine = create_engine(url, poolclass=NullPool, hide_parameters=True, connect_args=arguments)
        else:
            self._async = create_async_engine(
                url, pool_size=_CONNECTIONS, max_overflow=0, pool_recycle=_RECYCLE, hide_parameters=True
            )
            self._engine = self._async.sync_engine
        event.listen(self._engine, "connect", self._prepare)

    async def run(self, work: Callable[[Connection], T]) -> T:
        """What `work` returns, committed. `DatabaseFailed` where it fails or takes too long; nothing is written then,
        or, where the connection was lost during the commit, all of it may be."""
        try:
            async with asyncio.timeout(self._timeout):
                return await self._run(work)
        except TimeoutError:
            raise DatabaseFailed(TimeoutError(f"no answer within {self._timeout:g} s"), gone=True) from None
        except DBAPIError as error:
            raise DatabaseFailed(error.orig or error, gone=error.connection_invalidated) from None
        except (SQLAlchemyError, OSError, UnicodeEncodeError) as error:
            if isinstance(error, PermissionError) and error.filename is None and self.kind == "postgresql":
                error.filename = forbidden_file(self._url)
            raise DatabaseFailed(error, gone=True) from None

    async def close(self) -> None:
        """Close the connections. Waits at most `_CLOSING` seconds for the database."""
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
        if self._async is not None:
            closing = asyncio.ensure_future(self._async.dispose())
            await asyncio.wait((closing,), timeout=_CLOSING)
            if not closing.done():
                closing.cancel()

    async def _run(self, work: Callable[[Connection], T]) -> T:
        if self._async is not None:
            async with self._async.begin() as connection:
                return await connection.run_sync(work)
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._in_thread, work)

    def _in_thread(self, work: Callable[[Connection], T]) -> T:
        with self._engine.begin() as connection:
            return work(connection)

    def _prepare(self, connection: Any, record: Any) -> None:
        """Set up a new connection: a commit is on the disk, a text is never cut, and a lock is not awaited for ever."""
        milliseconds = max(1, round(self._timeout * 1000))
        statements = {
            "postgresql": (
                "SELECT set_config('synchronous_commit', 'on', false)"
                " WHERE current_setting('synchronous_commit') = 'off'",
                f"SET statement_timeout = {milliseconds}",
            ),
            "sqlite": ("PRAGMA synchronous = FULL",),
            **dict.fromkeys(
                MYSQL,
                (
                    "SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION,ERROR_FOR_DIVISION_BY_ZERO'",
                    f"SET SESSION innodb_lock_wait_timeout = {max(1, milliseconds // 1000)}",
                    "SET SESSION time_zone = '+00:00'",
                ),
            ),
        }
        cursor = connection.cursor()
        for statement in statements.get(self.kind, ()):
            cursor.execute(statement)
        cursor.close()
        connection.commit()
