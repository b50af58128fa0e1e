"""Deletes what has been kept for long enough."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gateway.journal.erasing import Retention

if TYPE_CHECKING:
    from gateway.config.tables import Config
    from gateway.journal.postgresql.database import Database


class Pruning:
    """One gateway's looks at retention."""

    def __init__(self, config: Config) -> None:
        self._retention = Retention.of(config)

    async def prune(self, database: Database, now: float) -> None:
        """Delete a bounded number of what is old; `now` is in seconds since 1970."""
