"""The three databases that custom values are tried on: SQLite, and a real PostgreSQL and MariaDB.

`GATEWAY_TEST_POSTGRESQL` and `GATEWAY_TEST_MARIADB` name the servers. Where there is none, their tests are skipped;
in CI (`CI=true`) they fail.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL, Connection, CursorResult, NullPool, create_engine, make_url, text
from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.ext.asyncio import create_async_engine

SERVERS = {
    "postgresql": ("GATEWAY_TEST_POSTGRESQL", "postgresql+asyncpg://root@127.0.0.1:5432/test"),
    "mariadb": ("GATEWAY_TEST_MARIADB", "mariadb+asyncmy://root@127.0.0.1:3306/test"),
}
KINDS = ("sqlite", *SERVERS)


class Database:
    """A database with a table of its own. `config` is what stands in the config for it."""

    def __init__(self, kind: str, url: URL, config: str) -> None:
        self.kind = kind
        self.url = url
        self.config = config
        self.table = f"customers_{secrets.token_hex(6)}"

    def execute(self, sql: str, *rows: dict[str, Any]) -> list[tuple[Any, ...]]:
        """Run a statement as the owner of the data, once for each of `rows`, and give what it returned."""
        return self._run(lambda connection: [connection.execute(text(sql), list(rows) or None)])

    def transaction(self, *statements: str) -> None:
        """Run statements as the owner of the data, in one transaction."""
        self._run(lambda connection: [connection.execute(text(sql)) for sql in statements])

    def _run(self, work: Callable[[Connection], list[CursorResult[Any]]]) -> list[tuple[Any, ...]]:
        def rows(connection: Connection) -> list[tuple[Any, ...]]:
            result = work(connection)[-1]
            return [tuple(row) for row in result] if result.returns_rows else []

        async def in_a_loop() -> list[tuple[Any, ...]]:
            engine = create_async_engine(self.url)
            try:
                async with engine.begin() as connection:
                    return await connection.run_sync(rows)
            finally:
                await engine.dispose()

        if self.kind == "sqlite":
            with create_engine(self.url, poolclass=NullPool).begin() as connection:
                return rows(connection)
        with ThreadPoolExecutor(1) as thread:  # a test's own event loop may be running in this one
            return thread.submit(asyncio.run, in_a_loop()).result()


@contextmanager
def open_database(kind: str, directory: Path) -> Iterator[Database]:
    """A database of that kind; its table, where a test has made it, is dropped at the end."""
    if kind == "sqlite":
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / "customers.db"
        yield Database(kind, make_url(f"sqlite:///{path}"), '"sqlite:///customers.db"')
        return
    variable, default = SERVERS[kind]
    os.environ.setdefault(variable, default)
    database = Database(kind, make_url(os.environ[variable]), f'{{ env = "{variable}" }}')
    try:
        database.execute("SELECT 1")
    except OSError as error:
        message = f"no {kind} at {database.url.host}:{database.url.port} ({variable}): {error}"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    except Exception as error:
        if "connect" not in str(error).lower() or os.environ.get("CI") == "true":
            raise
        pytest.skip(f"no {kind} at {database.url.host}:{database.url.port} ({variable})")
    try:
        yield database
    finally:
        database.execute(f"DROP TABLE IF EXISTS {database.table}")


@contextmanager
def statement_log() -> Iterator[list[tuple[str, Any]]]:
    """Every statement that is handed to any database's driver meanwhile, with its parameters."""
    log: list[tuple[str, Any]] = []
    do_execute: Any = DefaultDialect.do_execute

    def note(self: Any, cursor: Any, statement: str, parameters: Any, context: Any = None) -> None:
        log.append((statement, parameters))
        do_execute(self, cursor, statement, parameters, context)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DefaultDialect, "do_execute", note)
        yield log
