"""What a command does with a journal in PostgreSQL, beside gateways or without one: it neither appends nor delivers."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Self

from gateway.decoding import Decoder
from gateway.journal.postgresql.database import Database
from gateway.journal.postgresql.layout import require_journal
from gateway.journal.postgresql.leases import DEFAULT_TIMES
from gateway.journal.postgresql.operator import PostgresqlOperator

if TYPE_CHECKING:
    from gateway.config.tables import Config
    from gateway.journal.postgresql.connection import DatabaseConnection


class Console(PostgresqlOperator):
    """See `Operator`. `async with` opens and closes it; `JournalError` where there is no journal that it can change."""

    def __init__(self, config: Config, clock: Callable[[], float] = time.time) -> None:
        self.config = config
        self.database = Database(config)
        self.decoder = Decoder(config)
        self.identity = uuid.uuid4()
        self.clock = clock
        self.on_operations: list[Callable[[], None]] = []

    async def __aenter__(self) -> Self:
        try:
            await self.database.query(require_journal)
        except BaseException:
            await self.database.close()
            raise
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.database.close()

    async def gateways(self) -> list[str]:
        """The names of the gateways that run with this journal."""
        return await self.database.query(_gateways)


async def _gateways(connection: DatabaseConnection) -> list[str]:
    rows = await connection.fetch(
        "SELECT name FROM nodes WHERE stopped_at IS NULL AND beat_at > clock_timestamp() - $1 * interval '1 second'"
        " ORDER BY name",
        DEFAULT_TIMES.lasts,
    )
    return [row["name"] for row in rows]
