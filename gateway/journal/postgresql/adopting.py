"""Accepts that a journal is in another database cluster than the one that it was made in: after a restore, a migration
or a logical copy. No gateway starts there before."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, NamedTuple

from gateway.journal.interface import JournalError
from gateway.journal.postgresql.connection import DatabaseConnection, connect
from gateway.journal.postgresql.durability import system_identifier
from gateway.journal.postgresql.failures import translated
from gateway.journal.postgresql.layout import marker_of
from gateway.journal.postgresql.tables import MARKER

if TYPE_CHECKING:
    from gateway.config.tables import Config


class Clusters(NamedTuple):
    """The identifiers of the cluster that the journal belongs to (None: of none yet), and of the one that it is in."""

    made_in: str | None
    now_in: str


async def look(config: Config) -> Clusters:
    """Where the journal was made and is. `JournalError` where there is none, or this user may not know."""
    async with _connected(config) as connection:
        return await _clusters(connection)


async def adopt(config: Config, seen: Clusters) -> None:
    """Have the journal belong to the cluster that it is in, unless that is not what was seen any more."""
    async with _connected(config) as connection, connection.transaction():
        await connection.execute(f"LOCK TABLE {MARKER} IN EXCLUSIVE MODE")
        if await _clusters(connection) != seen:
            raise JournalError("the database of journal.url is another one than a moment ago; run the command again")
        await connection.execute(f"UPDATE {MARKER} SET system_identifier = $1", seen.now_in)


async def _clusters(connection: DatabaseConnection) -> Clusters:
    marker = await marker_of(connection)
    if marker is None:
        raise JournalError("there is no journal in the database of journal.url, so there is nothing to adopt")
    found = await system_identifier(connection)
    if found is None:
        raise JournalError(
            "this user may not know the identifier of the database cluster, and gateways of this user do not compare"
            " it; to have it compared: GRANT EXECUTE ON FUNCTION pg_control_system() TO the user of journal.url"
        )
    return Clusters(marker.system_identifier, found)


@contextlib.asynccontextmanager
async def _connected(config: Config) -> AsyncIterator[DatabaseConnection]:
    connection = await connect(config, "adopt")
    try:
        with translated():
            yield connection
    finally:
        await connection.close(timeout=5)
