"""Inserts a group of events within one transaction, finds duplicates and flags conflicts.

One statement inserts several rows, because each call into SQLite releases and takes the interpreter's lock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any, Final

import apsw
import msgspec

from gateway.journal.append import Append
from gateway.journal.interface import Receipt
from gateway.journal.sqlite.checksum import checksum, sound_events

_SIZES: Final = (64, 16, 4, 1)
_ROW: Final = "(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"


def insert(
    connection: apsw.Connection,
    appends: Sequence[Append],
    first_seq: int,
    window: int,
    damaged: Callable[[int], None],
) -> None:
    """Insert `appends`, numbering them from `first_seq`; `window` is the dedupe window in microseconds.

    Sets each one's `seq`; a duplicate keeps its `seq` of 0 and its receipt names the first event.
    `damaged` gets the positions of the events met on the way that are not what was written.
    """
    _flag_conflicts(connection, appends, damaged)
    for seq, append in enumerate(appends, first_seq):
        append.seq = seq
    written = 0
    for group in _groups(appends):
        values: list[Any] = []
        for append in group:
            values += _values(append)
        connection.execute(_statement(len(group)), values)
        written += connection.changes()
    if written < len(appends):
        _settle_repeats(connection, appends, first_seq, window, damaged)


def _groups(appends: Sequence[Append]) -> Iterator[Sequence[Append]]:
    start, left = 0, len(appends)
    for size in _SIZES:
        while left >= size:
            yield appends[start : start + size]
            start, left = start + size, left - size


@cache
def _statement(rows: int) -> str:
    return (
        f"INSERT INTO events VALUES {','.join([_ROW] * rows)}"
        " ON CONFLICT (created, digest) WHERE digest IS NOT NULL DO NOTHING"
    )


def _values(append: Append) -> tuple[Any, ...]:
    event = append.event
    values = (
        append.seq,
        event.id,
        append.micros,
        event.organisation,
        event.hook,
        event.conversation_id,
        event.customer_uid,
        int(event.readable),
        int(event.conflict),
        append.created,
        append.digest,
        append.natural_key,
        event.raw,
        event.name,
    )
    return (*values, checksum(values))


def _flag_conflicts(connection: apsw.Connection, appends: Sequence[Append], damaged: Callable[[int], None]) -> None:
    """The first event of a natural key owns it; a later one with another body is a conflict and owns none."""
    keyed = [append for append in appends if append.natural_key is not None]
    if not keyed:
        return
    owners: dict[str, bytes | None] = {}
    for group in _groups(keyed):
        marks = ",".join("?" * len(group))
        keys = [append.natural_key for append in group]
        for row in sound_events(connection, f"events WHERE natural_key IN ({marks})", keys, damaged):
            owners[row[11]] = row[10]
    for append in keyed:
        key = append.natural_key
        if key is None:
            continue
        if key not in owners:
            owners[key] = append.digest
        else:
            append.natural_key = None
            if owners[key] != append.digest:
                append.event = msgspec.structs.replace(append.event, conflict=True)


def _settle_repeats(
    connection: apsw.Connection,
    appends: Sequence[Append],
    first_seq: int,
    window: int,
    damaged: Callable[[int], None],
) -> None:
    """Handle bodies that the journal has already: duplicates within the window, new events outside of it."""
    present = {seq for (seq,) in connection.execute("SELECT seq FROM events WHERE seq >= ?", (first_seq,))}
    for append in appends:
        if append.seq in present:
            continue
        keys = (append.created, append.digest)
        rest = "events WHERE created = ? AND digest = ?"
        first = next(iter(list(sound_events(connection, rest, keys, damaged))), None)
        if first is None or first[9:11] != keys:  # the first is damaged, or the index: in doubt the event is kept
            append.digest = append.natural_key = None
        elif abs(append.micros - first[2]) <= window:
            append.seq = 0
            append.duplicate_of = Receipt(first[1], first[4], True, bool(first[7]))
            continue
        else:
            _take_over(connection, append, first)
        connection.execute(_statement(1), _values(append))


def _take_over(connection: apsw.Connection, append: Append, first: tuple[Any, ...]) -> None:
    """Make this event the one that repeats are compared with; it gets the natural key if the one before it had it."""
    changed = checksum((*first[:10], None, None, *first[12:]))
    connection.execute(
        "UPDATE events SET digest = NULL, natural_key = NULL, checksum = ? WHERE seq = ?", (changed, first[0])
    )
    append.natural_key = first[11]
