"""Where in the journal the events of a state can be. The state of an event follows from the cursors of plugins, except
for parked events, which have rows of their own: so most positions need no look."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from gateway.journal.interface import DEAD, DELIVERED, EVERY_HOOK, NO_TAKER, RETRYING, WAITING, Filter
from gateway.journal.postgresql.reading import Reading

EVERYTHING: Final = 2**63 - 1


class StateLimits(NamedTuple):
    """Every position after `after` up to `until` can have the state. At `after` and before, only events parked in the
    state `parked` can, none where that is None; with `exact`, all of these have it."""

    after: int = 0
    until: int = EVERYTHING
    parked: str | None = None
    exact: bool = True


def limits_of(reading: Reading, which: Filter) -> StateLimits:
    """The limits of a filter's state, which is that of any plugin or of the filter's."""
    if which.state in (DEAD, RETRYING):
        return StateLimits(EVERYTHING, parked=which.state)
    if which.state == WAITING:
        return StateLimits(_least(reading, "coalesce(c.seq, p.begins)", which.plugin), parked=WAITING)
    if which.state == DELIVERED:
        return StateLimits(_least(reading, "p.begins", which.plugin), parked=DELIVERED, exact=False)
    if which.state == NO_TAKER:
        return StateLimits(until=_taken_after(reading, which.plugin))
    return StateLimits()


def _least(reading: Reading, position: str, plugin: str | None) -> int:
    """The least of the positions of the shards of these plugins."""
    least = reading.value(
        f"SELECT min({position}) FROM plugins p LEFT JOIN generate_series(0, p.shards - 1) AS shard ON true"
        " LEFT JOIN cursors c ON c.plugin = p.plugin AND c.shard = shard.shard"
        " WHERE p.removed_at IS NULL AND p.plugin = coalesce($1, p.plugin)",
        plugin,
    )
    return EVERYTHING if least is None else int(least)


def _taken_after(reading: Reading, plugin: str | None) -> int:
    """The position after which a plugin has a hook for every event, and none is held back by a `where`."""
    [(least, held_back)] = reading.rows(
        "SELECT (SELECT min(greatest(p.begins, t.position)) FROM plugins p JOIN takes t ON t.plugin = p.plugin"
        f" AND t.hooks = '{EVERY_HOOK}' AND t.position = (SELECT max(position) FROM takes WHERE plugin = p.plugin)"
        " WHERE p.removed_at IS NULL AND p.plugin = coalesce($1, p.plugin)),"
        f" (SELECT max(seq) FROM parked WHERE state = '{NO_TAKER}')",
        plugin,
    )
    return EVERYTHING if least is None else max(int(least), held_back or 0)


def parked_pages(
    reading: Reading, which: Filter, limits: StateLimits, after: int, until: int, size: int, newest: bool
) -> Iterator[list[int]]:
    """The positions after `after` up to `until` of the events that are parked in the state of the limits, for the
    filter's plugin or any, in order or backwards; at most `size` in a page."""
    order = "DESC" if newest else "ASC"
    sql = (
        "SELECT DISTINCT r.seq FROM plugins p CROSS JOIN LATERAL (SELECT seq FROM parked WHERE state = $1"
        f" AND plugin = p.plugin AND seq > $2 AND seq <= $3 ORDER BY seq {order} LIMIT $4) r"
        f" WHERE p.removed_at IS NULL AND p.plugin = coalesce($5, p.plugin) ORDER BY r.seq {order} LIMIT $4"
    )
    while page := [seq for (seq,) in reading.rows(sql, limits.parked, after, until, size, which.plugin)]:
        yield page
        after, until = (after, page[-1] - 1) if newest else (page[-1], until)
