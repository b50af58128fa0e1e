"""Rows of the journal summed up for an operator: dead letters by cause, unreadable and unknown bodies, and how old the
oldest event is that a plugin has not taken."""

from __future__ import annotations

import sys
from typing import Any, Final

import apsw
import msgspec

from gateway.events import UNKNOWN
from gateway.journal.append import moment
from gateway.journal.contents import error_key
from gateway.journal.interface import DEAD, RETRYING, WAITING, Filter
from gateway.journal.search import (
    DEAD_GROUPS,
    DRIFT_WINDOW,
    UNKNOWN_NAMES,
    DeadGroup,
    UnknownName,
    UnreadableBodies,
)
from gateway.journal.sqlite.checksum import SOUND
from gateway.journal.sqlite.connection import rows
from gateway.journal.sqlite.queries import ALL, HAD_HOOK, where

PAGE: Final = 5000
AHEAD: Final = 1000
"""Events past a cursor that are looked at."""


class _Sum:
    """What is known of one group so far; times are seconds since 1970."""

    def __init__(self) -> None:
        self.count = 0
        self.first = float("inf")
        self.last = 0.0
        self.newest = 0


def position_before(connection: apsw.Connection, event_id: str) -> int:
    """The position of an event; where the journal no longer has it, that of the first one after it."""
    found = rows(connection, "SELECT seq FROM events WHERE id >= ? ORDER BY id LIMIT 1", (event_id,))
    return int(found[0][0]) if found else sys.maxsize


def id_after(connection: apsw.Connection, position: int) -> str | None:
    """The id of the first event after a position, or None; `position_before` finds the way back."""
    found = rows(connection, "SELECT id FROM events WHERE seq > ? ORDER BY seq LIMIT 1", (position,))
    return str(found[0][0]) if found else None


def dead_groups(connection: apsw.Connection, which: Filter) -> list[DeadGroup]:
    """See `Search.dead_groups`. Reads in pages: a long read would keep the write-ahead log from being restarted."""
    condition, values = where(msgspec.structs.replace(which, state=None, plugin=None, error=None))
    matches = (
        "1" if condition == ALL else f"EXISTS (SELECT 1 FROM events WHERE events.seq = parked.seq AND {condition})"
    )
    sql = (
        f"SELECT plugin, seq, error, since FROM parked WHERE state = '{DEAD}' AND (plugin, seq) > (?, ?)"
        f" AND plugin = coalesce(?, plugin) AND {SOUND['parked']} AND {matches} ORDER BY plugin, seq LIMIT {PAGE}"
    )
    sums: dict[tuple[str, str], _Sum] = {}
    place: tuple[str, int] = ("", 0)
    while page := rows(connection, sql, (*place, which.plugin, *values)):
        for plugin, seq, error, since in page:
            key = error_key(error)
            if which.error in (None, key):
                group = sums.setdefault((plugin, key), _Sum())
                group.count += 1
                group.first, group.last = min(group.first, since), max(group.last, since)
                group.newest = max(group.newest, seq)
        place = page[-1][:2]
    largest = sorted(sums.items(), key=lambda item: (-item[1].count, item[0]))[:DEAD_GROUPS]
    ids = _ids(connection, [group.newest for _, group in largest])
    return [
        DeadGroup(
            plugin=plugin,
            error=error,
            count=group.count,
            first=moment(int(group.first * 1_000_000)),
            last=moment(int(group.last * 1_000_000)),
            sample=ids.get(group.newest, ""),
        )
        for (plugin, error), group in largest
    ]


def unreadable(connection: apsw.Connection) -> list[UnreadableBodies]:
    """See `Search.unreadable`."""
    found: list[Any] = rows(
        connection,
        "SELECT hook, count(*), min(received_at), max(received_at), max(seq) FROM events NOT INDEXED"
        f" WHERE seq > (SELECT max(seq) FROM events) - {DRIFT_WINDOW} AND NOT readable AND hook <> '{UNKNOWN}'"
        " GROUP BY hook ORDER BY 2 DESC, 1",
    )
    ids = _ids(connection, [row[4] for row in found])
    return [
        UnreadableBodies(hook=hook, count=count, first=moment(first), last=moment(last), sample=ids.get(newest, ""))
        for hook, count, first, last, newest in found
    ]


def unknown_names(connection: apsw.Connection) -> list[UnknownName]:
    """See `Operator.unknown_names`."""
    found = rows(
        connection,
        f"SELECT name, count(*), min(seq), max(seq) FROM events WHERE hook = '{UNKNOWN}'"
        f" GROUP BY name ORDER BY 2 DESC, 1 LIMIT {UNKNOWN_NAMES}",
    )
    at = "SELECT received_at FROM events WHERE seq = ?"
    names = []
    for name, count, *ends in found:
        first, last = (moment(received) for end in ends for (received,) in rows(connection, at, (end,)))
        names.append(UnknownName(name, count, first, last))
    return names


def oldest_undelivered(connection: apsw.Connection) -> dict[str, float]:
    """See `Operator.oldest_undelivered`. Past a cursor only the next `AHEAD` events are looked at."""
    parked = "SELECT min(seq) FROM parked WHERE plugin = c.plugin AND state = '{}'"
    ahead = f"(SELECT * FROM events WHERE seq > c.seq ORDER BY seq LIMIT {AHEAD}) AS events"
    found = rows(
        connection,
        f"SELECT c.plugin, (SELECT min(received_at) FROM events WHERE seq IN (({parked.format(RETRYING)}),"
        f" ({parked.format(WAITING)}))), (SELECT received_at FROM {ahead} WHERE {HAD_HOOK} LIMIT 1)"
        " FROM cursors c WHERE c.removed_at IS NULL",
    )
    oldest = {plugin: [one for one in times if one is not None] for plugin, *times in found}
    return {plugin: min(times) / 1_000_000 for plugin, times in oldest.items() if times}


def _ids(connection: apsw.Connection, seqs: list[int]) -> dict[int, str]:
    """The ids of the events at these positions."""
    marks = ",".join("?" * len(seqs))
    return dict(rows(connection, f"SELECT seq, id FROM events WHERE seq IN ({marks})", seqs))
