"""The dead letters that a filter selects, in pages. What SQL cannot tell of an event or an error is looked at here."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from gateway.journal.interface import DEAD, Filter
from gateway.journal.postgresql.queries import ALL, Parameters, left_to_check, same_cause, where

if TYPE_CHECKING:
    from gateway.journal.postgresql.connection import DatabaseConnection

PAGE: Final = 1000
"""Dead letters that one transaction looks at and changes, at most."""


class Letter(NamedTuple):
    """A dead letter: of a plugin, and the event at a position."""

    plugin: str
    seq: int


FIRST: Final = Letter("", 0)


class LetterPage(NamedTuple):
    """Those of a page that match, the last letter that was looked at, and whether there can be more after it."""

    letters: list[Letter]
    last: Letter
    more: bool


async def count_dead(connection: DatabaseConnection, which: Filter, plugins: Collection[str] | None = None) -> int:
    """How many dead letters match; with `plugins`, only of these."""
    if left_to_check(which) is None and same_cause(which) is None:
        source, values = _dead(which, plugins, FIRST)
        return int(await connection.fetchval(f"SELECT count(*) FROM {source}", *values))
    found, page = 0, LetterPage([], FIRST, True)
    while page.more:
        page = await page_of(connection, which, plugins, page.last)
        found += len(page.letters)
    return found


async def page_of(
    connection: DatabaseConnection, which: Filter, plugins: Collection[str] | None, after: Letter, lock: bool = False
) -> LetterPage:
    """The next page by plugin and position. With `lock`, no other transaction changes these rows until the end of this
    one."""
    source, values = _dead(which, plugins, after)
    has_words, is_same = left_to_check(which), same_cause(which)
    raw = "NULL::bytea" if has_words is None else "(SELECT e.raw FROM events e WHERE e.seq = d.seq)"
    rows = await connection.fetch(
        f"SELECT d.plugin, d.seq, d.error, {raw} AS raw FROM {source} ORDER BY d.plugin, d.seq LIMIT {PAGE}"
        f"{' FOR UPDATE OF d' if lock else ''}",
        *values,
    )
    letters = [
        Letter(row["plugin"], row["seq"])
        for row in rows
        if (is_same is None or is_same(row["error"]))
        and (has_words is None or (row["raw"] is not None and has_words(row["raw"])))
    ]
    last = Letter(rows[-1]["plugin"], rows[-1]["seq"]) if rows else after
    return LetterPage(letters, last, len(rows) == PAGE)


def _dead(which: Filter, plugins: Collection[str] | None, after: Letter) -> tuple[str, list[Any]]:
    """The table `d` of dead letters that can match, with its condition, and the values."""
    place = Parameters()
    parts = [
        f"d.state = '{DEAD}'",
        f"(d.plugin, d.seq) > ({place.text(after.plugin)}, {place.add(after.seq, 'bigint')})",
    ]
    if which.plugin is not None:
        parts.append(f"d.plugin = {place.text(which.plugin)}")
    if plugins is not None:
        parts.append(f"d.plugin = ANY({place.texts(tuple(plugins))})")
    condition, values = where(msgspec.structs.replace(which, state=None, plugin=None), len(place.values) + 1)
    if condition != ALL and _finds_few(which):
        parts.append(f"d.seq IN (SELECT events.seq FROM events WHERE {condition})")
    elif (
        condition != ALL
    ):  # not as a join: before the tables are analysed, the database may choose one that takes hours
        parts.append(f"(SELECT true FROM events WHERE events.seq = d.seq AND {condition})")
    return f"parked d WHERE {' AND '.join(parts)}", [*place.values, *values]


def _finds_few(which: Filter) -> bool:
    """Whether an index finds the events, which are few."""
    return bool(which.ids) or not (which.conversation is which.customer is which.address is None)
