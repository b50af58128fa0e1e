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
CURSOR: Final = "plugin, begins, seq, removed_at, epoch, clean"
SOUND_CURSOR: Final = f"checksum = row_checksum({CURSOR})"
SEAL_CURSORS: Final = f"UPDATE cursors SET checksum = row_checksum({CURSOR})"

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
