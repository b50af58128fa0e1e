"""Retention: deletes old events that every plugin has had and that are not parked, oldest first, and old records of
custom value requests, in small steps."""

from __future__ import annotations

from typing import Final

import apsw
import msgspec

from gateway.journal.erasing import Retention
from gateway.journal.interface import DELIVERED, DISCARDED, NO_TAKER
from gateway.journal.sqlite.checksum import SOUND
from gateway.journal.sqlite.connection import rows
from gateway.journal.sqlite.cursors import expire
from gateway.journal.sqlite.queries import EVERYTHING

STEP: Final = 500


def prune(connection: apsw.Connection, now: int, retention: Retention, start: int) -> tuple[int, bool]:
    """Look at `STEP` events after `start` and delete those whose retention is over (times are in microseconds).

    Returns the next `start`, and whether there is more to do now. A round ends with 0, so that the next one deletes
    events that were parked before. A damaged cursor or replay keeps all events, a damaged row of a parked
    event that one. Events of the future (the clock was wrong) do not stop a round.
    """
    cutoff = now - retention.shortest
    expire(connection, (now - retention.default) / 1_000_000)
    [(limit,)] = connection.execute(
        f"SELECT min(coalesce((SELECT min(iif({SOUND['cursors']}, seq, 0)) FROM cursors), {EVERYTHING}),"
        f" coalesce((SELECT min(iif({SOUND['replays']}, position, 0)) FROM replays"
        f" WHERE finished_at IS NULL OR NOT ({SOUND['replays']})), {EVERYTHING}))"
    )
    found = rows(
        connection,
        "SELECT seq, received_at FROM events WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?",
        (start, limit, STEP),
    )
    if all(cutoff <= received_at <= now for _, received_at in found):
        return 0, False
    last = int(found[-1][0])
    cutoffs = msgspec.json.encode({hook: now - kept for hook, kept in retention.of_hooks.items()}).decode()
    connection.execute(
        "DELETE FROM events WHERE seq > ?1 AND seq <= ?2"
        " AND received_at < coalesce((SELECT value FROM json_each(?6) WHERE key = events.hook), ?3)"
        " AND seq NOT IN (SELECT seq FROM parked WHERE seq > ?1 AND seq <= ?2"
        f" AND (state NOT IN (?4, ?5, ?7) OR NOT ({SOUND['parked']})))",
        (start, last, now - retention.default, DISCARDED, DELIVERED, cutoffs, NO_TAKER),
    )
    more = len(found) == STEP and connection.changes() > 0
    connection.execute(
        "DELETE FROM parked WHERE state IN (?1, ?2, ?5) AND seq > ?3 AND seq <= ?4"
        " AND seq NOT IN (SELECT seq FROM events)",
        (DISCARDED, DELIVERED, start, last, NO_TAKER),
    )
    connection.execute(
        "DELETE FROM attempts WHERE seq > ?1 AND seq <= ?2"
        " AND seq NOT IN (SELECT seq FROM events WHERE seq > ?1 AND seq <= ?2)",
        (start, last),
    )
    return last, more


def expire_records(connection: apsw.Connection, before: int) -> bool:
    """Delete at most `STEP` records of custom value requests older than `before` (microseconds since 1970); returns
    whether there may be more."""
    oldest = "SELECT number FROM value_records WHERE at < ? ORDER BY at LIMIT ?"
    connection.execute(f"DELETE FROM value_records WHERE number IN ({oldest})", (before, STEP))
    return connection.changes() == STEP
