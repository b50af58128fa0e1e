"""What each gateway does for the journal beside appends and deliveries: retention, where it is its turn, and claims on
operations."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from gateway.journal.erasing import Retention
from gateway.journal.interface import JournalError
from gateway.journal.postgresql.claims import give_up_claims, keep_claims
from gateway.journal.postgresql.retention import expire_marks, expire_plugins, expire_records, is_ours, prune

if TYPE_CHECKING:
    from uuid import UUID

    from gateway.config.tables import Config
    from gateway.journal.postgresql.connection import DatabaseConnection
    from gateway.journal.postgresql.database import Database

STEPS: Final = 100
"""Steps of retention in one look, at most."""
CLAIMS: Final = 2.0
"""Seconds between two looks at operations."""


class Upkeep:
    """`look` is to be called again and again. `on_operations` are called where operations wait for a gateway, and
    where operators have changed something."""

    def __init__(
        self,
        database: Database,
        config: Config,
        identity: UUID,
        clock: Callable[[], float],
        on_operations: list[Callable[[], None]],
    ) -> None:
        self._database = database
        self._retention = Retention.of(config)
        self._record_retention = int(config.values.audit_retention * 1_000_000)
        self._identity = identity
        self._clock = clock
        self._on_operations = on_operations
        self._pruned_to = 0
        self._next_claims = 0.0

    async def look(self) -> None:
        """Do what is due. `JournalError`, after which the call can be repeated."""
        if (now := time.monotonic()) >= self._next_claims and self._on_operations:
            self._next_claims = now + CLAIMS
            if await self._database.operate(keep_claims, self._identity):
                self.operators_changed()
        for _ in range(STEPS):
            if not await self._database.operate(self._retain):
                break

    def operators_changed(self) -> None:
        """Have this gateway look at what operators asked for."""
        for listener in self._on_operations:
            listener()

    async def leave(self) -> None:
        """Leave operations to other gateways: this one stops."""
        with contextlib.suppress(JournalError):
            await self._database.operate(give_up_claims, self._identity)

    async def _retain(self, connection: DatabaseConnection) -> bool:
        """Take a step of retention; returns whether another is due now."""
        if not await is_ours(connection):
            return False
        now = int(self._clock() * 1_000_000)
        oldest = now - self._retention.default
        more_of_plugins = await expire_plugins(connection, oldest)
        self._pruned_to, more = await prune(connection, now, self._retention, self._pruned_to)
        more_records = await expire_records(connection, now - self._record_retention)
        await expire_marks(connection, oldest)
        return more or more_records or more_of_plugins
