"""Operations in SQLite: what operators asked for, with its progress. The functions do what the methods of `Operator`
state, each as one operation within a commit; what can match millions of rows is changed in steps."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

import apsw
import msgspec

from gateway.decoding import Decoder
from gateway.events import UNKNOWN
from gateway.journal.interface import DEAD, DISCARDED, Filter, JournalError, Replay, Track
from gateway.journal.operator import CLEARED, KEPT_OPERATIONS, Kind, PluginAnswers, StoredOperation
from gateway.journal.sqlite.checksum import SEAL, SOUND, checksum, sound_events
from gateway.journal.sqlite.connection import rows
from gateway.journal.sqlite.cursors import REPLAY, replay_of
from gateway.journal.sqlite.queries import ALL, restore, where

STEP: Final = 1000
"""Dead letters that one commit changes, at most, since acknowledgements of events wait for the commit."""
ERASED: Final = Filter(ids=CLEARED)
"""What is kept of the filter of an erasure."""
_KEPT_FILTER: Final = f"iif(kind = 'forget', '{msgspec.json.encode(ERASED).decode()}', filter)"
_DUE: Final = "state = 'retrying', attempts = 0, next_at = 0"
_LEFT: Final = "(SELECT count(*) FROM retried WHERE operation = o.number)"
_COLUMNS: Final = (
    "o.number, o.kind, o.filter, o.in_order, o.begun_at, o.matched, o.value_records, o.told, o.error,"
    " iif(o.kind = 'replay' AND o.state = 'running' AND r.number IS NULL, 'finished',"
    " iif(o.state = 'running' AND r.finished_at IS NOT NULL, 'finished', o.state)),"
    f" coalesce(o.ended_at, r.finished_at), coalesce(r.done, o.done), {_LEFT}"
)
_FROM: Final = (
    f"(SELECT *, {SOUND['operations']} AS sound FROM operations) o"
    " LEFT JOIN replays r ON o.kind = 'replay' AND r.number = o.number WHERE o.sound"
)
_OVER: Final = "(o.state <> 'running' OR (o.kind = 'replay' AND (r.number IS NULL OR r.finished_at IS NOT NULL)))"


def dead(which: Filter, plugins: Collection[str] | None = None) -> tuple[str, tuple[object, ...]]:
    """The condition for matching dead letters, and its values."""
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
    condition, values = dead(which, plugins)
    [(count,)] = connection.execute(f"SELECT count(*) FROM parked WHERE {condition}", values)
    return int(count)


def count(connection: apsw.Connection, which: Filter, until: int) -> int:
    """How many events up to a position match."""
    condition, values = where(which)
    [(number,)] = rows(connection, f"SELECT count(*) FROM events WHERE seq <= ? AND {condition}", (until, *values))
    return int(number)


def begin(
    connection: apsw.Connection, kind: Kind, which: Filter, in_order: bool, until: int, matched: int, now: float
) -> int:
    """Keep a new operation; returns its number. A replay is of the events up to `until`."""
    text = msgspec.json.encode(which).decode()
    connection.execute(
        "INSERT INTO operations (kind, filter, in_order, state, begun_at, at_plugin, at_seq, matched, done,"
        " value_records, told) VALUES (?, ?, ?, 'running', ?, '', 0, ?, 0, 0, '{}')",
        (kind, text, int(in_order), now, matched),
    )
    number = connection.last_insert_rowid()
    _seal(connection, number)
    if kind == "replay":
        connection.execute(
            "INSERT INTO replays (number, plugin, filter, position, until, matched, done) VALUES (?, ?, ?, 0, ?, ?, 0)",
            (number, which.plugin, text, until, matched),
        )
        connection.execute(f"{SEAL['replays']} WHERE number = ?", (number,))
    over = f"SELECT o.number FROM {_FROM} AND {_OVER} AND NOT {_LEFT} ORDER BY o.number DESC LIMIT -1 OFFSET ?"
    gone = rows(connection, over, (KEPT_OPERATIONS,))
    for table in ("operations", "replays"):
        connection.executemany(f"DELETE FROM {table} WHERE number = ?", gone)
    return number


def advance(connection: apsw.Connection, number: int, plugins: Collection[str] | None, now: float) -> StoredOperation:
    """See `Operator.advance`."""
    operation = one(connection, number)
    if operation.state != "running" or operation.kind not in ("retry", "discard"):
        return operation
    condition, values = dead(operation.filter, plugins)
    letters = rows(
        connection,
        f"SELECT plugin, seq FROM parked WHERE {condition} AND (plugin, seq) >"
        " (SELECT at_plugin, at_seq FROM operations WHERE number = ?) ORDER BY plugin, seq LIMIT ?",
        (*values, number, STEP),
    )
    if operation.kind == "discard":
        connection.executemany(f"UPDATE parked SET state = '{DISCARDED}' WHERE plugin = ? AND seq = ?", letters)
        connection.executemany(f"{SEAL['parked']} WHERE plugin = ? AND seq = ?", letters)
    else:
        _retry(connection, number, letters, operation.in_order)
    plugin, seq = letters[-1] if letters else ("", 0)
    _change(connection, number, "done = done + ?, at_plugin = ?, at_seq = ?", len(letters), plugin, seq)
    if len(letters) < STEP:
        end(connection, number, None, now)
    return one(connection, number)


def _retry(connection: apsw.Connection, number: int, letters: list[Any], in_order: bool) -> None:
    connection.executemany(
        f"INSERT OR REPLACE INTO retried SELECT plugin, seq, {int(number)}, attempts FROM parked"
        " WHERE plugin = ? AND seq = ?",
        letters,
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


def found(connection: apsw.Connection, number: int) -> StoredOperation | None:
    """See `Operator.operation`."""
    for row in rows(connection, f"SELECT {_COLUMNS} FROM {_FROM} AND o.number = ?", (number,)):
        return _operation_of(row)
    return None


def one(connection: apsw.Connection, number: int) -> StoredOperation:
    """An operation; `JournalError` where it is missing or damaged."""
    if (operation := found(connection, number)) is None:
        raise JournalError(f"the journal has no operation {number}")
    return operation


def listed(connection: apsw.Connection, limit: int, running: bool) -> list[StoredOperation]:
    """See `Operator.operations`."""
    condition = (
        f"((o.state = 'running' AND o.kind <> 'replay') OR (o.state = 'cancelled' AND {_LEFT}))" if running else "1"
    )
    found = rows(connection, f"SELECT {_COLUMNS} FROM {_FROM} AND {condition} ORDER BY o.number DESC LIMIT ?", (limit,))
    return [_operation_of(row) for row in found]


def _operation_of(row: Any) -> StoredOperation:
    number, kind, which, in_order, begun_at, matched, value_records, told, error, state, ended_at, done, left = row
    return StoredOperation(
        number=number,
        kind=kind,
        filter=msgspec.json.decode(which, type=Filter),
        in_order=bool(in_order),
        state=state,
        begun_at=begun_at,
        ended_at=None if state == "running" else ended_at,
        matched=max(matched, done),
        done=done,
        left=max(0, matched - done) if kind == "replay" and state == "running" else left,
        value_records=value_records,
        error=error,
        answers=msgspec.json.decode(told, type=PluginAnswers),
    )


def cancel(connection: apsw.Connection, number: int, now: float) -> None:
    """See `Operator.cancel`."""
    operation = one(connection, number)
    if operation.state == "running" or (operation.state == "finished" and operation.kind == "retry" and operation.left):
        _change(connection, number, f"state = 'cancelled', ended_at = ?, filter = {_KEPT_FILTER}", now)
        connection.execute("UPDATE replays SET finished_at = coalesce(finished_at, ?) WHERE number = ?", (now, number))
        connection.execute(f"{SEAL['replays']} WHERE number = ?", (number,))


def retried(connection: apsw.Connection, number: int) -> dict[str, list[int]]:
    """See `Operator.retried`."""
    found: dict[str, list[int]] = {}
    for plugin, seq in rows(connection, "SELECT plugin, seq FROM retried WHERE operation = ? ORDER BY seq", (number,)):
        found.setdefault(plugin, []).append(seq)
    return found


def take_back(connection: apsw.Connection, track: Track, number: int, seqs: Collection[int]) -> None:
    """See `Operator.take_back`; of at most `STEP` events."""
    which = f"plugin = ? AND seq IN ({','.join('?' * len(seqs))})"
    values = (track.plugin, *seqs)
    live = f"{which} AND state IN ('retrying', 'waiting') AND EXISTS (SELECT 1 FROM retried t WHERE t.plugin ="
    live += f" parked.plugin AND t.seq = parked.seq AND t.operation = {int(number)})"
    attempts = "(SELECT t.attempts FROM retried t WHERE t.plugin = parked.plugin AND t.seq = parked.seq)"
    connection.execute(f"UPDATE parked SET state = '{DEAD}', next_at = 0, attempts = {attempts} WHERE {live}", values)
    back = connection.changes()
    connection.execute(f"{SEAL['parked']} WHERE {which}", values)
    connection.execute(f"DELETE FROM retried WHERE {which} AND operation = ?", (*values, number))
    _change(connection, number, "done = done - ?", back)


def count_erased(connection: apsw.Connection, number: int, events: int, records: int) -> None:
    """An erasure has erased so many more events, and records of custom value requests."""
    _change(connection, number, "done = done + ?, value_records = value_records + ?", events, records)


def tell_answers(connection: apsw.Connection, number: int, answers: PluginAnswers) -> None:
    """See `Operator.tell_answers`."""
    _change(connection, number, "told = ?", msgspec.json.encode(answers).decode())


def clear(connection: apsw.Connection, number: int) -> None:
    """See `Operator.clear`."""
    _change(connection, number, f"filter = {_KEPT_FILTER}")


def end(connection: apsw.Connection, number: int, error: str | None, now: float) -> None:
    """See `Operator.end`."""
    state = "finished" if error is None else "failed"
    _change(connection, number, f"state = ?, error = ?, ended_at = ?, filter = {_KEPT_FILTER}", state, error, now)


def _change(connection: apsw.Connection, number: int, assignments: str, *values: object) -> None:
    """Change columns of an operation that is sound, and its checksum with them."""
    connection.execute(
        f"UPDATE operations SET {assignments} WHERE number = ? AND {SOUND['operations']}", (*values, number)
    )
    if connection.changes():
        _seal(connection, number)


def _seal(connection: apsw.Connection, number: int) -> None:
    connection.execute(f"{SEAL['operations']} WHERE number = ?", (number,))


def replay(connection: apsw.Connection, number: int) -> Replay:
    """A replay by the number of its operation."""
    [row] = rows(connection, f"SELECT {REPLAY} FROM replays WHERE number = ?", (number,))
    return replay_of(row)


def recognise(connection: apsw.Connection, decoder: Decoder, names: tuple[str, ...]) -> int:
    """Give at most `STEP` events that are kept as unknown, and came by one of these names, the hook that the decoder
    now has for it; returns how many."""
    known = [name for name in names if decoder.hook_of(name) is not None]
    sql = f"events WHERE hook = '{UNKNOWN}' AND name IN ({','.join('?' * len(known))}) LIMIT ?"
    found = list(sound_events(connection, sql, (*known, STEP), lambda seq: None))
    for row in found:
        event = restore(decoder, row)
        changed = (*row[:4], event.hook, *row[5:7], int(event.readable), *row[8:])
        connection.execute(
            "UPDATE events SET hook = ?, readable = ?, checksum = ? WHERE seq = ?",
            (event.hook, int(event.readable), checksum(changed), row[0]),
        )
    return len(found)


def probe(connection: apsw.Connection, value: float) -> float:
    """Write a value and read it back."""
    connection.execute("INSERT OR REPLACE INTO meta VALUES ('probe', ?)", (value,))
    [(read,)] = connection.execute("SELECT value FROM meta WHERE key = 'probe'")
    return float(read)


def note(connection: apsw.Connection, name: str) -> str | None:
    """See `Operator.note`."""
    return next(
        (text for (text,) in rows(connection, "SELECT value FROM meta WHERE key = 'note ' || ?", (name,))), None
    )


def keep_note(connection: apsw.Connection, name: str, text: str) -> None:
    """See `Operator.keep_note`."""
    connection.execute("INSERT OR REPLACE INTO meta VALUES ('note ' || ?, ?)", (name, text))
