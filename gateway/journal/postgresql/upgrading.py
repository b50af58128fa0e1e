"""Brings a journal up to date without a gateway."""

from __future__ import annotations

from contextlib import closing

from gateway.config.tables import Config
from gateway.journal.postgresql.layout import marker_of, upgrade
from gateway.journal.postgresql.reading import Reading


def upgrade_now(config: Config) -> tuple[int, int]:
    """See `gateway.journal.upgrade_journal`."""
    with closing(Reading(config, "upgrade", copying=True)) as reading:
        before = reading.run(marker_of(reading.connection))
        after = reading.run(upgrade(reading.connection))
    return before.layout if before is not None else 0, after.layout
