"""Erases events with all that is kept of them, in steps.

An erased row is in no answer any more once its step is committed. PostgreSQL keeps its bytes until `VACUUM`, which is
run at the end, has made their place free for new rows. Copies in the write-ahead log, in standbys and in backups are
the operator's.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

import msgspec

from gateway.journal.erasing import Erased, names_in
from gateway.journal.interface import Filter
from gateway.journal.postgresql.operations import ERASED, count_erased
from gateway.journal.postgresql.queries import left_to_check, where, where_record
from gateway.journal.search import ValueRecordFilter

if TYPE_CHECKING:
    from gateway.journal.postgresql.connection import DatabaseConnection

log = logging.getLogger("gateway.journal")

PAGE: Final = 5000
"""Matching events that one statement finds, at most."""
STEP: Final = 500
"""Events or records that one transaction erases, at most."""
OF_EVENTS: Final = ("events", "parked", "retried", "suspects", "attempts")
"""The tables that have rows of an event. Its own goes first: what a settlement writes about it meanwhile comes before
that, and is seen and erased by the statements that follow."""
_VACUUMED: Final = (*OF_EVENTS, "value_records", "operations", "replays")


async def find(connection: DatabaseConnection, which: Filter, after: int, until: int) -> tuple[list[int], int | None]:
    """The positions of matching events between two positions, `until` included, and where to go on after them; None
    where that is all."""
    condition, values = where(which, 3)
    has_words = left_to_check(which)
    raw = "NULL::bytea" if has_words is None else "events.raw"
    rows = await connection.fetch(
        f"SELECT events.seq, {raw} AS raw FROM events WHERE events.seq > $1 AND events.seq <= $2 AND {condition}"
        f" ORDER BY events.seq LIMIT {PAGE}",
        after, until, *values,
    )  # fmt: skip
    found = [row["seq"] for row in rows if has_words is None or has_words(row["raw"])]
    return found, rows[-1]["seq"] if len(rows) == PAGE else None


async def erase(connection: DatabaseConnection, seqs: list[int], number: int | None) -> int:
    """Erase the events at these positions; returns how many there still were."""
    erased = await connection.fetch("DELETE FROM events WHERE seq = ANY($1) RETURNING seq", seqs)
    for table in OF_EVENTS[1:]:
        await connection.execute(f"DELETE FROM {table} WHERE seq = ANY($1)", seqs)
    if number is not None:
        await count_erased(connection, number, len(erased), 0)
    return len(erased)


async def erase_records(connection: DatabaseConnection, which: Filter, number: int | None) -> int:
    """Erase at most `STEP` records of requests about `which.customer`; returns how many."""
    if which.customer is None:
        return 0
    condition, values = where_record(ValueRecordFilter(customer_uid=which.customer, organisation=which.organisation))
    erased = await connection.fetch(
        f"DELETE FROM value_records WHERE number = ANY(ARRAY(SELECT number FROM value_records WHERE {condition}"
        f" LIMIT {STEP})) RETURNING number",
        *values,
    )
    if number is not None:
        await count_erased(connection, number, 0, len(erased))
    return len(erased)


async def end_replays(connection: DatabaseConnection, which: Filter, now: float) -> None:
    """End the replays that were asked for by this customer, address or conversation, and forget that they were."""
    for row in await connection.fetch("SELECT DISTINCT number, plugin, filter FROM replays"):
        if _names_them(row["filter"], which):
            kept = msgspec.json.encode(msgspec.structs.replace(ERASED, plugin=row["plugin"])).decode()
            await connection.execute(
                "UPDATE replays SET filter = $2, position = until, finished_at = coalesce(finished_at, $3)"
                " WHERE number = $1",
                row["number"], kept, now,
            )  # fmt: skip


async def end_operations(connection: DatabaseConnection, which: Filter, now: float, number: int | None) -> None:
    """The same for all operations but the one with this number, which is this erasure."""
    for row in await connection.fetch("SELECT number, filter FROM operations"):
        if row["number"] != number and _names_them(row["filter"], which):
            await connection.execute(
                "UPDATE operations SET filter = $2, ended_at = coalesce(ended_at, $3),"
                " state = CASE WHEN state = 'running' THEN 'finished' ELSE state END WHERE number = $1",
                row["number"], msgspec.json.encode(ERASED).decode(), now,
            )  # fmt: skip


def _names_them(text: Any, which: Filter) -> bool:
    """Whether a filter that an operator gave names whom the erasure is about."""
    asked = msgspec.json.decode(text, type=Filter)
    elsewhere = None not in (asked.organisation, which.organisation) and asked.organisation != which.organisation
    return bool(not elsewhere and names_in(asked) & names_in(which))


async def note(connection: DatabaseConnection, which: Filter, erased: Erased, now: float) -> None:
    """Keep when how much was erased by which kind of selector: nothing of the selector itself."""
    kind = "+".join(kind for kind, _ in sorted(names_in(which)))
    told = {"at": now, "by": kind, "events": erased.events, "value_records": erased.value_records}
    await connection.execute(
        "INSERT INTO notes (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        f"erasure {now:.6f}", msgspec.json.encode(told).decode(),
    )  # fmt: skip


async def vacuum(connection: DatabaseConnection) -> None:
    """Have PostgreSQL free the place of erased rows, outside of a transaction. It only does so in tables that this role
    owns; in others its own autovacuum does that later."""
    await connection.execute(f"VACUUM (INDEX_CLEANUP ON, TRUNCATE OFF) {', '.join(_VACUUMED)}", timeout=None)
