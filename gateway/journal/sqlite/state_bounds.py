"""Where in the journal the events of a state can be. The state of an event follows from the cursors of plugins, except
for parked events, which have rows of their own: so most positions need no look."""

from __future__ import annotations

from collections.abc import Iterator
from heapq import merge
from itertools import groupby, islice
from typing import Final, NamedTuple

import apsw

from gateway.journal.interface import DEAD, DELIVERED, EVERY_HOOK, NO_TAKER, RETRYING, WAITING, Filter
from gateway.journal.sqlite.connection import rows
from gateway.journal.sqlite.queries import EVERYTHING

_PAGE: Final = 500


class StateBounds(NamedTuple):
    """Every position after `after` up to `until` can have the state. At `after` and before, only events parked in the
    state `parked` can, none where that is None; with `exact`, all of these have it."""

    after: int = 0
    until: int = EVERYTHING
    parked: str | None = None
    exact: bool = True


def bounds_of(connection: apsw.Connection, which: Filter) -> StateBounds:
    """The bounds of a filter's state, which is that of any plugin or of the filter's."""
    if which.state in (DEAD, RETRYING):
        return StateBounds(EVERYTHING, parked=which.state)
    if which.state == WAITING:
        return StateBounds(_least(connection, "seq", which.plugin), parked=WAITING)
    if which.state == DELIVERED:
        return StateBounds(_least(connection, "begins", which.plugin), parked=DELIVERED, exact=False)
    if which.state == NO_TAKER:
        return StateBounds(until=_taken_after(connection, which.plugin))
    return StateBounds()


def _least(connection: apsw.Connection, column: str, plugin: str | None) -> int:
    sql = f"SELECT min({column}) FROM cursors WHERE plugin = coalesce(?, plugin) AND removed_at IS NULL"
    [(least,)] = rows(connection, sql, (plugin,))
    return EVERYTHING if least is None else int(least)


def _taken_after(connection: apsw.Connection, plugin: str | None) -> int:
    """The position after which a plugin has a hook for every event, and none is held back by a `where`."""
    last = "SELECT max(position) FROM takes WHERE plugin = c.plugin"
    [(least,)] = rows(
        connection,
        f"SELECT min(max(c.begins, t.position)) FROM cursors c JOIN takes t ON t.plugin = c.plugin AND t.hooks = ?"
        f" AND t.position = ({last}) WHERE c.plugin = coalesce(?, c.plugin) AND c.removed_at IS NULL",
        (EVERY_HOOK, plugin),
    )
    [(held_back,)] = rows(connection, "SELECT max(seq) FROM parked WHERE state = ?", (NO_TAKER,))
    return EVERYTHING if least is None else max(int(least), held_back or 0)


def parked_pages(
    connection: apsw.Connection, state: str, plugin: str | None, after: int, until: int, size: int, newest: bool
) -> Iterator[list[int]]:
    """The positions after `after` up to `until` of the events that are parked in a state, for this plugin or any,
    in order or backwards; at most `size` in a page."""
    sql = "SELECT plugin FROM cursors WHERE plugin = coalesce(?, plugin) AND removed_at IS NULL"
    plugins = [name for (name,) in rows(connection, sql, (plugin,))]
    found = [_parked(connection, state, name, after, until, newest) for name in plugins]
    merged = (seq for seq, _ in groupby(merge(*found, reverse=newest)))
    while page := list(islice(merged, size)):
        yield page


def _parked(
    connection: apsw.Connection, state: str, plugin: str, after: int, until: int, newest: bool
) -> Iterator[int]:
    sql = "SELECT seq FROM parked WHERE state = ? AND plugin = ? AND seq > ? AND seq <= ? ORDER BY seq"
    while True:
        page = rows(connection, f"{sql} {'DESC' if newest else 'ASC'} LIMIT {_PAGE}", (state, plugin, after, until))
        yield from (seq for (seq,) in page)
        if len(page) < _PAGE:
            return
        after, until = (after, page[-1][0] - 1) if newest else (page[-1][0], until)
