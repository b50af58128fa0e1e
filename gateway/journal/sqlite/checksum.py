"""A checksum over all columns of a row, so that a row whose bits changed on disk is not taken for what was written.

CRC-32 from the standard library: it finds every change of up to 32 adjacent bits, and misses one in 4 billion of any
other change. It costs about a microsecond for an event.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from typing import Any, Final
from zlib import crc32

import apsw
import msgspec

EVENT: Final = (
    "seq, id, received_at, organisation, hook, conversation_id, customer_uid, readable, conflict, created, digest,"
    " natural_key, raw, name"
)
_TEXT: Final = "CAST({} AS BLOB)"  # SQLite's binding does not return a damaged text
_COVERED: Final = {
    "cursors": (("plugin",), "begins, seq, removed_at, epoch, clean"),
    "operations": (
        ("kind", "filter", "state", "at_plugin", "told", "error"),
        "number, in_order, begun_at, ended_at, at_seq, matched, done, value_records",
    ),
    "parked": (("plugin", "state", "error", "conversation"), "seq, attempts, next_at, since, replayed, asked"),
    "replays": (("plugin", "filter"), "number, position, until, matched, done, finished_at"),
    "suspects": (("plugin",), "seq, crashes, running"),
    "takes": (("plugin", "hooks"), "position"),
    "value_records": (("organisation", "customer_uid", "address", "fields"), "number, at, status"),
}
"""What the checksum of a row covers, by table: the texts, and the numbers. Events have `EVENT`."""
_CHECKSUM: Final = {
    table: f"row_checksum({', '.join(map(_TEXT.format, texts))}, {numbers})"
    for table, (texts, numbers) in _COVERED.items()
}
SEAL: Final = {table: f"UPDATE {table} SET checksum = {value}" for table, value in _CHECKSUM.items()}
"""Statements, to which a condition is added: they write the checksum of rows that were just written."""
SOUND: Final = {table: f"checksum = {value}" for table, value in _CHECKSUM.items()}
"""Conditions that hold for the rows that are what was written."""
_PLACE: Final = {
    "cursors": "'the cursor of plugin ' || plugin",
    "operations": "'operation ' || number",
    "parked": "'the row of plugin ' || plugin || ' for the event at position ' || seq",
    "replays": "'replay ' || number || ' of plugin ' || plugin",
    "suspects": "'the suspicion of plugin ' || plugin || ' about the event at position ' || seq",
    "takes": "'the hooks of plugin ' || plugin || ' from position ' || position",
    "value_records": "'the record of custom value request ' || number",
}
OF_PLUGINS: Final = ("cursors", "parked", "replays", "suspects", "takes")
"""The tables whose rows belong to a plugin and decide what it gets."""

_encode = msgspec.msgpack.Encoder().encode


def checksum(values: Sequence[Any]) -> int:
    """The checksum of a row's columns, which are numbers, texts, bytes and None (not booleans)."""
    return crc32(_encode(values))


def register(connection: apsw.Connection) -> None:
    """Let statements on this connection use `row_checksum`."""
    connection.create_scalar_function("row_checksum", lambda *values: checksum(values), deterministic=True)


def is_sound(row: Sequence[Any]) -> bool:
    """Whether a row of `EVENT` and its checksum is what was written."""
    return bool(checksum(row[:-1]) == row[-1])


def sound_events(
    connection: apsw.Connection, rest: str, values: Sequence[Any], damaged: Callable[[int], None]
) -> Generator[tuple[Any, ...], None, None]:
    """The rows of `EVENT` that `SELECT seq FROM rest` finds, in its order; `damaged` gets the position of each row that
    is not what was written."""
    done = 0
    try:
        with closing(connection.execute(f"SELECT {EVENT}, checksum FROM {rest}", values)) as found:
            for row in found:
                done += 1
                if is_sound(row):
                    yield row[:-1]
                else:
                    damaged(row[0])
    except UnicodeDecodeError:  # a text is damaged, in a row that SQLite's binding does not return
        for (seq,) in list(connection.execute(f"SELECT seq FROM {rest}", values))[done:]:
            yield from _sound_event(connection, seq, damaged)


def _sound_event(connection: apsw.Connection, seq: int, damaged: Callable[[int], None]) -> Iterator[tuple[Any, ...]]:
    try:
        for row in connection.execute(f"SELECT {EVENT}, checksum FROM events WHERE seq = ?", (seq,)):
            if is_sound(row):
                yield row[:-1]
            else:
                damaged(seq)
    except UnicodeDecodeError:
        damaged(seq)


def damaged_places(connection: apsw.Connection, table: str, plugin: str | None = None, which: str = "1") -> list[str]:
    """The rows of a table that are not what was written, by names such as "the cursor of plugin crm"; with `plugin`,
    only of this plugin. `which` is a further condition."""
    condition = "1" if plugin is None else "plugin = ?"
    sql = f"SELECT {_TEXT.format(_PLACE[table])} FROM {table} WHERE {condition} AND {which} AND NOT ({SOUND[table]})"
    return [place.decode(errors="replace") for (place,) in connection.execute(sql, () if plugin is None else (plugin,))]
