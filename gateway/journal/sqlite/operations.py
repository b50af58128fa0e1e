"""What operators do: retry and discard dead letters, replay. The functions do what the methods of `Operator` state,
each as one operation within a commit; changes that can match millions of rows are made in steps of `limit`."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

import apsw
import msgspec

from gateway.decoding import Decoder
from gateway.events import UNKNOWN
from gateway.journal.append import moment
from gateway.journal.interface import DEAD, DISCARDED, RETRYING, WAITING, Filter, Replay
from gateway.journal.search import UNKNOWN_NAMES, UnknownName
from gateway.journal.sqlite.checksum import SEAL, SOUND, checksum, sound_events
from gateway.journal.sqlite.connection import rows
from gateway.journal.sqlite.cursors import REPLAY, replay_of
from gateway.journal.sqlite.queries import ALL, HAD_HOOK, restore, where

AHEAD: Final = 1000
_DUE = "state = 'retrying', attempts = 0, next_at = 0"


def _dead(which: Filter, plugins: Collection[str] | None = None) -> tuple[str, tuple[object, ...]]:
    condition, values = where(msgspec.structs.replace(which, state=None, plugin=None))
    among = "1" if plugins is None else f"plugin IN ({','.join('?' * len(plugins))})"
    same = "1" if which.error is None else "error_key(error) = ?"
    matches = (
        "1" if condition == ALL else f"EXISTS (SELECT 1 FROM events WHERE events.seq = parked.seq AND {condition})"
    )
    return (
        f"state = ? AND plugin = coalesce(?, plugin) AND {among} AND {same} AND {SOUND['parked']} AND {matches}",
        (DEAD, which.plugin, *(plugins or ()), *(() if which.error is None else (which.error,)), *values),
    )


def count_dead(connection: apsw.Connection, which: Filter, plugins: Collection[str] | None = None) -> int:
    condition, values = _dead(which, plugins)
    [(count,)] = connection.execute(f"SELECT count(*) FROM parked WHERE {condition}", values)
    return int(count)


def discard_dead(connection: apsw.Connection, which: Filter, limit: int) -> int:
    """Discard at most `limit` matching dead letters; returns how many."""
    condition, values = _dead(which)
    letters = rows(connection, f"SELECT plugin, seq FROM parked WHERE {condition} LIMIT ?", (*values, limit))
    connection.executemany(f"UPDATE parked SET state = '{DISCARDED}' WHERE plugin = ? AND seq = ?", letters)
    connection.executemany(f"{SEAL['parked']} WHERE plugin = ? AND seq = ?", letters)
    return len(letters)


def retry_dead(
    connection: apsw.Connection, which: Filter, limit: int, plugins: Collection[str] | None, in_order: bool
) -> int:
    """Make at most `limit` matching dead letters due again, the oldest first; returns how many."""
    condition, values = _dead(which, plugins)
    letters = rows(
        connection, f"SELECT plugin, seq FROM parked WHERE {condition} ORDER BY seq LIMIT ?", (*values, limit)
    )
    conversation = "NULL"
    if in_order:
        conversation = "(SELECT organisation || '/' || conversation_id FROM events WHERE events.seq = parked.seq)"
    connection.executemany(
        f"UPDATE parked SET {_DUE}, conversation = {conversation} WHERE plugin = ? AND seq = ?", letters
    )
    if in_order:
        first = "SELECT plugin, min(seq) FROM parked WHERE state IN ('retrying', 'waiting')"
        ahead = set(rows(connection, f"{first} GROUP BY plugin, coalesce(conversation, seq)"))
        behind = [letter for letter in letters if letter not in ahead]
        connection.executemany("UPDATE parked SET state = 'waiting' WHERE plugin = ? AND seq = ?", behind)
    connection.executemany(f"{SEAL['parked']} WHERE plugin = ? AND seq = ?", letters)
    return len(letters)


def count(connection: apsw.Connection, which: Filter, until: int) -> int:
    """How many events up to a position match."""
    condition, values = where(which)
    [(found,)] = rows(connection, f"SELECT count(*) FROM events WHERE seq <= ? AND {condition}", (until, *values))
    return int(found)


def recognise(connection: apsw.Connection, decoder: Decoder, names: Collection[str], limit: int) -> int:
    """Give at most `limit` events that are kept as unknown, and came by one of these names, the hook that the decoder
    now has for it; returns how many."""
    known = [name for name in names if decoder.hook_of(name) is not None]
    sql = f"events WHERE hook = '{UNKNOWN}' AND name IN ({','.join('?' * len(known))}) LIMIT ?"
    found = list(sound_events(connection, sql, (*known, limit), lambda seq: None))
    for row in found:
        event = restore(decoder, row)
        changed = (*row[:4], event.hook, *row[5:7], int(event.readable), *row[8:])
        connection.execute(
            "UPDATE events SET hook = ?, readable = ?, checksum = ? WHERE seq = ?",
            (event.hook, int(event.readable), checksum(changed), row[0]),
        )
    return len(found)


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


def new_replay(connection: apsw.Connection, which: Filter, until: int, matched: int) -> Replay:
    """Begin a replay of the `matched` events up to `until`."""
    connection.execute(
        "INSERT INTO replays (plugin, filter, position, until, matched, done) VALUES (?, ?, 0, ?, ?, 0)",
        (which.plugin, msgspec.json.encode(which).decode(), until, matched),
    )
    connection.execute(f"{SEAL['replays']} WHERE number = last_insert_rowid()")
    [row] = rows(connection, f"SELECT {REPLAY} FROM replays WHERE number = last_insert_rowid()")
    return replay_of(row)


def replay_state(connection: apsw.Connection, number: int) -> tuple[int, bool]:
    [(done, finished)] = rows(
        connection, "SELECT done, finished_at IS NOT NULL FROM replays WHERE number = ?", (number,)
    )
    return done, bool(finished)


def probe(connection: apsw.Connection, value: float) -> float:
    """Write a value and read it back."""
    connection.execute("INSERT OR REPLACE INTO meta VALUES ('probe', ?)", (value,))
    [(read,)] = connection.execute("SELECT value FROM meta WHERE key = 'probe'")
    return float(read)
