"""Schemas for journals in the machine's PostgreSQL, which `GATEWAY_TEST_POSTGRESQL` names as in `databases.py`."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import cache
from typing import Any, TypeVar
from urllib.parse import urlsplit

import asyncpg
import pytest
from databases import SERVERS

T = TypeVar("T")
FULL = """
CREATE FUNCTION {schema}.no_room() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = 'disk_full'; END $$;
DO $$ DECLARE name text; BEGIN
    FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = '{schema}' LOOP
        EXECUTE format('CREATE TRIGGER no_room BEFORE INSERT OR UPDATE OR DELETE ON {schema}.%I'
            ' EXECUTE FUNCTION {schema}.no_room()', name);
    END LOOP;
END $$;
"""


def server_url() -> str:
    """The address of the database that tests may use. Skips the test where there is none; fails it in CI."""
    variable, default = SERVERS["postgresql"]
    url = os.environ.get(variable, default).replace("+asyncpg", "")
    if (problem := _problem(url)) is not None:
        message = f"no PostgreSQL at {urlsplit(url).hostname} ({variable}): {problem}"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return url


@cache
def _problem(url: str) -> str | None:
    try:
        execute(url, "SELECT 1")
    except OSError as error:
        return str(error)
    return None


def execute(url: str, *statements: str) -> list[Any]:
    """Run statements on a connection of their own; the rows of the last one."""

    async def run(connection: asyncpg.Connection[Any]) -> list[Any]:
        rows: list[Any] = []
        for statement in statements:
            if statement.lstrip().upper().startswith(("SELECT", "TABLE", "SHOW")):
                rows = [tuple(row) for row in await connection.fetch(statement)]
            else:
                await connection.execute(statement)
        return rows

    return on_connection(url, run)


def on_connection(url: str, run: Callable[[Any], Awaitable[T]]) -> T:
    """What `run` returns for a connection of its own, in a loop of its own."""

    async def work() -> T:
        connection = await asyncpg.connect(url, timeout=10, server_settings={"lock_timeout": "30s"})
        try:
            return await run(connection)
        finally:
            await connection.close()

    with ThreadPoolExecutor(1) as thread:  # a test's own event loop may be running in this one
        return thread.submit(asyncio.run, work()).result()


class Schema:
    """A schema of its own in a database; `url` is what a config says for a journal in it."""

    def __init__(self, server: str | None = None) -> None:
        self.server = server or server_url()
        self.name = f"journal_{secrets.token_hex(6)}"
        self.url = f"{self.server}?search_path={self.name}"
        execute(self.server, f"CREATE SCHEMA {self.name}")

    def execute(self, *statements: str) -> list[Any]:
        """Run statements in the schema; the rows of the last one."""
        return execute(self.url, *statements)

    async def change(self, *statements: str) -> None:
        """Run statements that wait for other sessions, those of this process among them: its event loop goes on."""
        await asyncio.to_thread(self.execute, *statements)

    def drop(self) -> None:
        """Drop the schema with all that is in it, also where a killed gateway has left a connection to it."""
        execute(self.server, "SET lock_timeout = '20s'", f"DROP SCHEMA IF EXISTS {self.name} CASCADE")

    async def fill(self) -> None:
        """Have every write end as on a full disk."""
        await self.change(FULL.format(schema=self.name))

    async def make_room(self) -> None:
        """Undo `fill`."""
        await self.change(f"DROP FUNCTION IF EXISTS {self.name}.no_room() CASCADE")

    @asynccontextmanager
    async def holding_appends(self) -> AsyncIterator[HeldAppends]:
        """Appends wait within."""
        connection = await asyncpg.connect(self.url, timeout=10)
        try:
            async with connection.transaction():
                await connection.execute("LOCK TABLE head IN EXCLUSIVE MODE")
                yield HeldAppends(connection)
        finally:
            await connection.close()


class HeldAppends:
    """Appends that wait for a lock, which `connection` has."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection

    async def sessions(self) -> list[int]:
        """The sessions that wait, as soon as there is one."""
        waiting = "SELECT pid FROM pg_locks WHERE relation = 'head'::regclass AND NOT granted"
        async with asyncio.timeout(30):
            while not (found := await self.connection.fetch(waiting)):
                await asyncio.sleep(0.005)
        return [row[0] for row in found]

    async def end(self) -> None:
        """End the sessions that wait, as a server does that is stopped."""
        for session in await self.sessions():
            await self.connection.execute(f"SELECT pg_terminate_backend({session})")
