"""Retention: deletes old events that every plugin has had and that are not parked, oldest first, old records of custom
value requests and old marks, in small steps. Each is a short transaction, which one gateway at a time takes."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import TYPE_CHECKING, Final

from gateway.journal.append import moment
from gateway.journal.erasing import Retention
from gateway.journal.interface import DELIVERED, DISCARDED, NO_TAKER
from gateway.journal.postgresql.queries import EVERYTHING

if TYPE_CHECKING:
    from gateway.journal.postgresql.connection import DatabaseConnection

STEP: Final = 500
MARKS: Final = 100
"""Marks of one cursor that a look at retention deletes, at most."""
_OF_PLUGINS: Final = ("cursors", "suspects", "replays", "takes", "marks")
_MANY: Final = ("parked", "retried", "attempts")
_OVER: Final = f"('{DISCARDED}', '{DELIVERED}', '{NO_TAKER}')"
"""The states of parked rows that keep no event."""


def _moment(micros: int) -> datetime:
    return moment(max(0, micros))


async def is_ours(connection: DatabaseConnection) -> bool:
    """Whether this transaction is the one that looks after retention; no other is, until its end."""
    lock = "pg_try_advisory_xact_lock(hashtextextended(current_schema() || ' retention', 0))"
    return bool(await connection.fetchval(f"SELECT {lock}"))


async def prune(connection: DatabaseConnection, now: int, retention: Retention, start: int) -> tuple[int, bool]:
    """Look at `STEP` events after `start` and delete those whose retention is over (times are in microseconds).

    Returns the next `start`, and whether there is more to do now. A round ends with 0, so that the next one deletes
    events that were parked before. Events of the future (the clock was wrong) do not stop a round.
    """
    cutoff = _moment(now - retention.shortest)
    limit = await connection.fetchval(
        "SELECT least((SELECT min(coalesce(c.seq, p.begins)) FROM plugins p LEFT JOIN cursors c USING (plugin)),"
        " (SELECT min(position) FROM replays WHERE finished_at IS NULL))"
    )
    found = await connection.fetch(
        f"SELECT seq, received_at FROM events WHERE seq > $1 AND seq <= $2 ORDER BY seq LIMIT {STEP}",
        start, EVERYTHING if limit is None else limit,
    )  # fmt: skip
    if all(cutoff <= row["received_at"] <= _moment(now) for row in found):
        return 0, False
    last = int(found[-1]["seq"])
    cutoffs = {hook: _moment(now - kept) for hook, kept in retention.of_hooks.items()}
    deleted = await connection.fetch(
        "DELETE FROM events WHERE seq > $1 AND seq <= $2 AND received_at < coalesce("
        "(SELECT k.cutoff FROM unnest($4::text[], $5::timestamptz[]) AS k(hook, cutoff)"
        " WHERE k.hook = events.hook), $3)"
        " AND NOT EXISTS (SELECT 1 FROM parked WHERE parked.seq = events.seq"
        f" AND parked.state NOT IN {_OVER}) RETURNING seq",
        start, last, _moment(now - retention.default), list(cutoffs), list(cutoffs.values()),
    )  # fmt: skip
    gone = [row["seq"] for row in deleted]
    for table in ("parked", "attempts"):
        await connection.execute(f"DELETE FROM {table} WHERE seq = ANY($1)", gone)
    return last, len(found) == STEP and bool(gone)


async def expire_records(connection: DatabaseConnection, before: int) -> bool:
    """Delete at most `STEP` records of custom value requests older than `before` (microseconds since 1970); returns
    whether there may be more."""
    deleted = await connection.fetch(
        "DELETE FROM value_records WHERE number = ANY(ARRAY(SELECT number FROM value_records WHERE at < $1"
        f" ORDER BY at LIMIT {STEP})) RETURNING number",
        _moment(before),
    )
    return len(deleted) == STEP


async def expire_marks(connection: DatabaseConnection, before: int) -> None:
    """Delete at most `MARKS` marks of each cursor older than `before` (microseconds since 1970)."""
    await connection.execute(
        "DELETE FROM marks USING cursors c CROSS JOIN LATERAL (SELECT seq, at FROM marks o WHERE o.plugin = c.plugin"
        f" AND o.shard = c.shard ORDER BY seq LIMIT {MARKS}) AS old"
        " WHERE marks.plugin = c.plugin AND marks.shard = c.shard AND marks.seq = old.seq AND old.at < $1",
        _moment(before),
    )


async def expire_plugins(connection: DatabaseConnection, before: int) -> bool:
    """Drop what there is of a plugin that was retired before `before` (microseconds since 1970), its many rows first;
    returns whether there may be more."""
    plugin = await connection.fetchval(
        "SELECT plugin FROM plugins WHERE removed_at < $1 ORDER BY removed_at LIMIT 1 FOR UPDATE SKIP LOCKED",
        _moment(before),
    )
    if plugin is None:
        return False
    for table in _MANY:
        some = f"SELECT ctid FROM {table} WHERE plugin = $1 LIMIT {STEP}"
        deleted = await connection.execute(f"DELETE FROM {table} WHERE ctid = ANY(ARRAY({some}))", plugin)
        if deleted == f"DELETE {STEP}":
            return True
    await connection.execute(
        "UPDATE operations o SET done = r.done FROM (SELECT number, sum(done) AS done FROM replays WHERE plugin = $1"
        " GROUP BY number) r WHERE o.number = r.number",
        plugin,
    )
    for table in (*_OF_PLUGINS, "plugins"):
        await connection.execute(f"DELETE FROM {table} WHERE plugin = $1", plugin)
    return True


async def retire(connection: DatabaseConnection, keep: Collection[str], now: float, lasts: float) -> None:
    """See `Operator.retire_cursors`; `now` is seconds since 1970. A plugin that another gateway delivers to, with its
    last heartbeat not more than `lasts` seconds ago, stays: gateways are restarted one after the other."""
    await connection.execute(
        "UPDATE plugins p SET removed_at = to_timestamp($2) WHERE removed_at IS NULL AND plugin <> ALL($1::text[])"
        " AND NOT EXISTS (SELECT 1 FROM nodes n WHERE n.stopped_at IS NULL AND n.about -> 'delivers' ? p.plugin"
        " AND n.beat_at > clock_timestamp() - $3 * interval '1 second')",
        sorted(keep), now, lasts,
    )  # fmt: skip
