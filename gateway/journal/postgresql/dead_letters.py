"""Lists dead letters by event and plugin, by the index of parked events."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from gateway.journal.append import moment
from gateway.journal.interface import DEAD, Filter
from gateway.journal.postgresql.queries import left_to_check, same_cause, where
from gateway.journal.postgresql.reading import Reading
from gateway.journal.search import DeadRow

PAGE: Final = 1000
_NAMES: Final = (
    f"WITH RECURSIVE names AS (SELECT min(plugin) AS plugin FROM parked WHERE state = '{DEAD}' UNION ALL SELECT"
    f" (SELECT min(plugin) FROM parked WHERE state = '{DEAD}' AND plugin > names.plugin) FROM names"
    " WHERE names.plugin IS NOT NULL) SELECT plugin FROM names WHERE plugin IS NOT NULL"
)
"""The plugins that have dead letters, by a look-up for each."""


def listed(reading: Reading, which: Filter, limit: int | None) -> Iterator[DeadRow]:
    """See `Search.dead`."""
    left = limit
    for row in _matching(reading, which) if limit != 0 else ():
        yield DeadRow(
            id=str(row["id"]),
            plugin=row["plugin"],
            hook=row["hook"],
            conversation_id=row["conversation_id"],
            attempts=row["attempts"],
            error=row["error"],
            dead_since=moment(int(row["since"] * 1_000_000)),
        )
        left = None if left is None else left - 1
        if left == 0:
            return


def _matching(reading: Reading, which: Filter) -> Iterator[Any]:
    """The rows of matching dead letters, by event and plugin."""
    plugins = [plugin for (plugin,) in reading.rows(_NAMES) if which.plugin in (None, plugin)]
    condition, values = where(msgspec.structs.replace(which, state=None, plugin=None), 5)
    has_words, same = left_to_check(which), same_cause(which)
    raw = "NULL" if has_words is None else "events.raw"
    letter = (
        f"SELECT parked.seq, parked.plugin, events.id, events.hook, events.conversation_id, parked.attempts,"
        f" parked.error, parked.since, {raw} AS raw FROM parked JOIN events ON events.seq = parked.seq"
        f" WHERE parked.state = '{DEAD}' AND parked.plugin = names.plugin AND parked.seq >= $2"
        f' AND (parked.seq > $2 OR names.plugin COLLATE "C" > $3) AND {condition} ORDER BY parked.seq LIMIT $4'
    )
    sql = (
        f"SELECT letter.* FROM unnest($1::text[]) AS names (plugin) CROSS JOIN LATERAL ({letter}) AS letter"
        ' ORDER BY letter.seq, letter.plugin COLLATE "C" LIMIT $4'
    )
    place: tuple[int, str] = (0, "")
    while plugins and (page := reading.rows(sql, plugins, *place, PAGE, *values)):
        for row in page:
            if (same is None or same(row["error"])) and (has_words is None or has_words(row["raw"])):
                yield row
        place = page[-1]["seq"], page[-1]["plugin"]
