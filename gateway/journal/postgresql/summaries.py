"""Rows of the journal summed up for an operator: dead letters by cause, and bodies that cannot be read."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Final

import msgspec

from gateway.events import UNKNOWN
from gateway.journal.append import moment
from gateway.journal.contents import error_key
from gateway.journal.interface import DEAD, Filter
from gateway.journal.postgresql.queries import ALL, left_to_check, where
from gateway.journal.postgresql.reading import Reading
from gateway.journal.search import (
    DEAD_GROUPS,
    DRIFT_WINDOW,
    DeadGroup,
    UnreadableBodies,
)

PAGE: Final = 5000
_UNREADABLE: Final = (
    "SELECT found.hook, found.number, found.first, found.last, newest.id FROM (SELECT hook, count(*) AS number,"
    " min(received_at) AS first, max(received_at) AS last, max(seq) AS newest FROM events"
    f" WHERE seq > (SELECT max(seq) FROM events) - {DRIFT_WINDOW} AND NOT readable AND hook <> '{UNKNOWN}'"
    " GROUP BY hook) AS found JOIN events newest ON newest.seq = found.newest"
    ' ORDER BY found.number DESC, found.hook COLLATE "C"'
)


class _Cause(msgspec.Struct):
    """What is known of dead letters of one cause so far; times are seconds since 1970."""

    count: int = 0
    first: float = math.inf
    last: float = 0.0
    newest: int = 0


def unreadable(reading: Reading) -> list[UnreadableBodies]:
    """See `Search.unreadable`."""
    return [
        UnreadableBodies(hook=hook, count=count, first=first, last=last, sample=str(sample))
        for hook, count, first, last, sample in reading.rows(_UNREADABLE)
    ]


def dead_groups(reading: Reading, which: Filter) -> list[DeadGroup]:
    """See `Search.dead_groups`."""
    groups: dict[tuple[str, str], _Cause] = {}
    condition, values = where(msgspec.structs.replace(which, state=None, plugin=None, error=None), 4)
    check = left_to_check(which)
    raw = "NULL" if check is None else "events.raw"
    matches = "" if condition == ALL else f" AND {condition}"
    events = "" if condition == ALL else " JOIN events ON events.seq = parked.seq"
    sql = (
        f"SELECT parked.plugin, parked.seq, parked.error, parked.since, {raw} FROM parked{events}"
        f" WHERE parked.state = '{DEAD}' AND (parked.plugin, parked.seq) > ($1, $2)"
        f" AND parked.plugin = coalesce($3, parked.plugin){matches} ORDER BY parked.plugin, parked.seq LIMIT {PAGE}"
    )
    place: tuple[str, int] = ("", 0)
    while page := reading.rows(sql, *place, which.plugin, *values):
        for plugin, seq, error, since, body in page:
            key = error_key(error)
            if which.error in (None, key) and (check is None or check(body)):
                group = groups.setdefault((plugin, key), _Cause())
                group.count += 1
                group.first, group.last = min(group.first, since), max(group.last, since)
                group.newest = max(group.newest, seq)
        place = page[-1][0], page[-1][1]
    largest = sorted(groups.items(), key=lambda item: (-item[1].count, item[0]))[:DEAD_GROUPS]
    ids = _ids(reading, [group.newest for _, group in largest])
    return [
        DeadGroup(
            plugin=plugin,
            error=error,
            count=group.count,
            first=_at(group.first),
            last=_at(group.last),
            sample=ids.get(group.newest, ""),
        )
        for (plugin, error), group in largest
    ]


def _at(seconds: float) -> datetime:
    return moment(int(seconds * 1_000_000))


def _ids(reading: Reading, seqs: list[int]) -> dict[int, str]:
    """The ids of the events at these positions."""
    return {seq: str(found) for seq, found in reading.rows("SELECT seq, id FROM events WHERE seq = ANY($1)", seqs)}
