"""The layout of the journal's tables: numbered steps, each one transaction, guarded by a lock. A new journal is made by
the same steps that bring an older one up to date. All of it is in the first schema of the session's search_path."""

from __future__ import annotations

import logging
import re
from typing import Final, NamedTuple

from gateway.journal.interface import JournalError, JournalRefused
from gateway.journal.postgresql.append_function import APPEND, LOOK_UP
from gateway.journal.postgresql.connection import DatabaseConnection
from gateway.journal.postgresql.durability import system_identifier
from gateway.journal.postgresql.settle_function import SETTLE
from gateway.journal.postgresql.tables import MARKER, TABLES
from gateway.journal.postgresql.views import VIEWS

log = logging.getLogger("gateway.journal")

STEPS: Final = {1: TABLES + APPEND + LOOK_UP + SETTLE + VIEWS}
LAYOUT: Final = max(STEPS)
NAMES: Final = re.findall(r"^CREATE TABLE (\w+)", TABLES, re.MULTILINE)
_MISSING: Final = (
    "SELECT name FROM unnest($1::text[]) AS name"
    " WHERE to_regclass(quote_ident(current_schema()) || '.' || name) IS NULL LIMIT 1"
)
_LOCK: Final = 0x77656269  # "webi"; two gateways that start at the same time


class Marker(NamedTuple):
    """What the journal says of itself: its id, its layout, and the identifier of the cluster that it was made in."""

    journal: str
    layout: int
    system_identifier: str | None

    @property
    def channel(self) -> str:
        """The channel on which appends are notified: that of this journal, in whichever schema."""
        return f"gateway_{self.journal.replace('-', '')}"


async def marker_of(connection: DatabaseConnection, copying: bool = False, *, running: bool = False) -> Marker | None:
    """The journal that there is, or None. `JournalRefused` for one that this version cannot work with, and for an
    unfinished copy unless `copying`. For a gateway that is `running`, the next layout is one that it works with: a step
    takes nothing away that the version before needs, so that gateways can be upgraded one by one."""
    if await connection.fetchval("SELECT current_schema()") is None:
        raise JournalRefused("journal.url: the search_path names no schema that exists; create it, or name another")
    tables = await connection.fetchval(  # counted before the marker is looked for: another gateway may be making both
        "SELECT count(*) FROM pg_class WHERE relnamespace = current_schema()::regnamespace"
        " AND relkind IN ('r', 'p', 'v', 'm', 'f')"
    )
    if await connection.fetchval("SELECT to_regclass(quote_ident(current_schema()) || '.' || $1)", MARKER) is None:
        if tables:
            raise JournalRefused(
                "journal.url: the database has tables, but not those of a journal; it is another application's. Name an"
                " empty database, or an empty schema with ?search_path="
            )
        return None
    row = await connection.fetchrow(f"SELECT journal::text, layout, system_identifier, copy_of FROM {MARKER}")
    if row is None:
        raise JournalRefused(f"the table {MARKER} of the journal is empty; restore the database")
    found = Marker(row["journal"], row["layout"], row["system_identifier"])
    missing = await connection.fetchval(_MISSING, NAMES)
    if missing is not None:
        raise JournalRefused(f"the table {missing} of the journal is missing in the database; restore it")
    if found.layout > LAYOUT + running:
        raise JournalRefused(
            f"the journal was written by a newer version of the gateway (layout {found.layout}); this one knows up to"
            f" {LAYOUT}: install that version"
        )
    if row["copy_of"] is not None and not copying:
        raise JournalRefused(
            "journal.url: the database has a copy of another journal that is not finished; call `gateway journal copy`"
            " again, or name an empty database"
        )
    return found


async def copied_from(connection: DatabaseConnection) -> str | None:
    """What is noted of the source of an unfinished copy, or None."""
    if await marker_of(connection, copying=True) is None:
        return None
    source: str | None = await connection.fetchval(f"SELECT copy_of FROM {MARKER}")
    return source


async def require_journal(connection: DatabaseConnection) -> None:
    """`JournalError` where there is no journal of the current layout."""
    marker = await marker_of(connection)
    if marker is None:
        raise JournalError("there is no journal in the database of journal.url yet; `gateway run` makes it")
    if marker.layout != LAYOUT:
        raise JournalError(
            f"the journal is of layout {marker.layout}, and this version works with {LAYOUT}: start a gateway of this"
            " version first, which brings it there"
        )


async def upgrade(connection: DatabaseConnection, copying: bool = False) -> Marker:
    """Make the journal, or bring it to the current layout."""
    before = await marker_of(connection, copying)
    if before is not None and before.layout == LAYOUT:
        return before
    for number in range(1, LAYOUT + 1):
        async with connection.transaction():
            await connection.execute(f"SELECT pg_advisory_xact_lock({_LOCK}, hashtext(current_schema()))")
            found = await marker_of(connection, copying)
            if found is not None and found.layout >= number:
                continue
            await connection.execute(STEPS[number])
            if found is None:
                identifier = await system_identifier(connection)
                await connection.execute(
                    f"INSERT INTO {MARKER} (layout, system_identifier) VALUES ($1, $2)", number, identifier
                )
            else:
                await connection.execute(f"UPDATE {MARKER} SET layout = {number}")
    after = await marker_of(connection, copying)
    if after is None:
        raise JournalRefused("the journal could not be made")
    if before is not None:
        log.warning("journal: the database was upgraded from layout %d to %d", before.layout, LAYOUT)
    return after
