"""What the delivery writes: cursors, parked events, suspects of a crash, replays. Each function is one operation
within a commit."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence

import apsw
import msgspec

from gateway.journal.interface import DEAD, DISCARDED, UNORDERED, Filter, Parked, Replay, Settlement, Standing
from gateway.journal.sqlite.filters import where
from gateway.journal.sqlite.schema import rows

_PARKED = "plugin, seq, state, attempts, next_at, error, since, conversation, replayed, asked"
_REPLAY = "number, plugin, filter, position, until, matched, done"


def mark_open(connection: apsw.Connection) -> bool:
    """Note that a gateway is at work; returns whether one before it ended uncleanly, and what was in flight then has
    not all been tried since."""
    row = connection.execute("SELECT value FROM meta WHERE key = 'clean'").fetchone()
    connection.execute("INSERT OR REPLACE INTO meta VALUES ('clean', 0)")
    connection.execute("UPDATE suspects SET crashes = crashes + 1, running = 0 WHERE running")
    return row is not None and not row[0]


def mark_closed(connection: apsw.Connection, clean: bool) -> None:
    """Note that nothing runs any more; with `clean`, that nothing that ran is suspected either."""
    connection.execute("UPDATE suspects SET running = 0")
    if clean:
        connection.execute("INSERT OR REPLACE INTO meta VALUES ('clean', 1)")


def probe(connection: apsw.Connection, value: float) -> float:
    connection.execute("INSERT OR REPLACE INTO meta VALUES ('probe', ?)", (value,))
    [(read,)] = connection.execute("SELECT value FROM meta WHERE key = 'probe'")
    return float(read)


def open_cursor(connection: apsw.Connection, plugin: str, begins: int) -> Standing:
    connection.execute(
        "INSERT INTO cursors VALUES (?, ?, ?, NULL) ON CONFLICT (plugin) DO UPDATE SET removed_at = NULL",
        (plugin, begins, begins),
    )
    [(cursor,)] = connection.execute("SELECT seq FROM cursors WHERE plugin = ?", (plugin,))
    return Standing(
        cursor,
        parked(connection, plugin),
        [
            seq
            for (seq,) in connection.execute(
                "SELECT seq FROM parked WHERE plugin = ? AND seq > ? AND state IN ('dead', 'discarded')",
                (plugin, cursor),
            )
        ],
        replays(connection, plugin),
        dict(connection.execute("SELECT seq, crashes FROM suspects WHERE plugin = ? AND crashes > 0", (plugin,))),
    )


def parked(connection: apsw.Connection, plugin: str) -> list[Parked]:
    """What is parked for a plugin and no dead letter, in order; then the first `UNORDERED` events without an order."""
    sql = f"SELECT {_PARKED} FROM parked WHERE plugin = ? AND state IN ('retrying', 'held')"
    ordered = rows(connection, f"{sql} AND conversation IS NOT NULL ORDER BY seq", (plugin,))
    unordered = rows(connection, f"{sql} AND conversation IS NULL ORDER BY seq LIMIT ?", (plugin, UNORDERED))
    return [_parked_of(row) for row in (*ordered, *unordered)]


def _parked_of(row: Sequence[object]) -> Parked:
    values = dict(zip(Parked.__struct_fields__, row, strict=True))
    for name in ("replayed", "asked"):  # SQLite has none but numbers
        values[name] = bool(values[name])
    return Parked(**values)  # type: ignore[arg-type]


def replays(connection: apsw.Connection, plugin: str) -> list[Replay]:
    """A plugin's replays that are not over."""
    sql = f"SELECT {_REPLAY} FROM replays WHERE plugin = ? AND finished_at IS NULL ORDER BY number"
    return [replay_of(row) for row in rows(connection, sql, (plugin,))]


def settle(connection: apsw.Connection, settlement: Settlement) -> None:
    """Write one plugin's progress."""
    plugin = settlement.plugin
    if settlement.cursor is not None:
        connection.execute("UPDATE cursors SET seq = ? WHERE plugin = ?", (settlement.cursor, plugin))
    for row in settlement.park:
        connection.execute(
            f"INSERT OR REPLACE INTO parked ({_PARKED}) VALUES (?,?,?,?,?,?,?,?,?,?)",
            msgspec.structs.astuple(row),
        )
    for seq in settlement.release:
        connection.execute("DELETE FROM parked WHERE plugin = ? AND seq = ?", (plugin, seq))
    if settlement.replay is not None:
        number, position, done = settlement.replay
        connection.execute(
            "UPDATE replays SET position = ?, done = done + ?,"
            " finished_at = CASE WHEN ? >= until THEN ? END WHERE number = ?",
            (position, done, position, time.time(), number),
        )


def suspect(connection: apsw.Connection, plugin: str, running: int | None, over: int | None) -> None:
    """Record which delivery runs next, and that the one before it is over and took nothing down."""
    if over is not None:
        connection.execute("DELETE FROM suspects WHERE plugin = ? AND seq = ?", (plugin, over))
    if running is not None:
        connection.execute(
            "INSERT INTO suspects VALUES (?, ?, 0, 1) ON CONFLICT (plugin, seq) DO UPDATE SET running = 1",
            (plugin, running),
        )


def retire(connection: apsw.Connection, keep: Sequence[str], now: float, oldest: float) -> None:
    marks = ",".join("?" * len(keep))
    connection.execute(
        f"UPDATE cursors SET removed_at = ? WHERE removed_at IS NULL AND plugin NOT IN ({marks})",
        (now, *keep),
    )
    expire(connection, oldest)


def expire(connection: apsw.Connection, oldest: float) -> None:
    """Drop all that is kept for plugins that were removed before `oldest`."""
    gone = [row[0] for row in connection.execute("SELECT plugin FROM cursors WHERE removed_at < ?", (oldest,))]
    for plugin in gone:
        for table in ("cursors", "parked", "suspects", "replays"):
            connection.execute(f"DELETE FROM {table} WHERE plugin = ?", (plugin,))


def replay_of(row: Sequence[object]) -> Replay:
    values = dict(zip(Replay.__struct_fields__, row, strict=True))
    values["filter"] = msgspec.json.decode(str(values["filter"]), type=Filter)
    return Replay(**values)  # type: ignore[arg-type]


def count(connection: apsw.Connection, which: Filter, until: int) -> int:
    """How many events up to a position a filter means."""
    condition, values = where(which)
    [(found,)] = rows(connection, f"SELECT count(*) FROM events WHERE seq <= ? AND {condition}", (until, *values))
    return int(found)


def new_replay(connection: apsw.Connection, which: Filter, until: int, matched: int) -> Replay:
    """Have a range delivered again to `which.plugin`."""
    connection.execute(
        "INSERT INTO replays (plugin, filter, position, until, matched, done) VALUES (?, ?, 0, ?, ?, 0)",
        (which.plugin, msgspec.json.encode(which).decode(), until, matched),
    )
    [row] = rows(connection, f"SELECT {_REPLAY} FROM replays WHERE number = last_insert_rowid()")
    return replay_of(row)


def replay_state(connection: apsw.Connection, number: int) -> tuple[int, bool]:
    """How many events a replay has done, and whether it is over."""
    [(done, finished)] = connection.execute(
        "SELECT done, finished_at IS NOT NULL FROM replays WHERE number = ?", (number,)
    )
    return done, bool(finished)


def _dead(which: Filter, plugins: Collection[str] | None = None) -> tuple[str, tuple[object, ...]]:
    condition, values = where(msgspec.structs.replace(which, state=None, plugin=None))
    among = "1" if plugins is None else f"plugin IN ({','.join('?' * len(plugins))})"
    return (
        f"state = ? AND plugin = coalesce(?, plugin) AND {among}"
        f" AND EXISTS (SELECT 1 FROM events WHERE events.seq = parked.seq AND {condition})",
        (DEAD, which.plugin, *(plugins or ()), *values),
    )


def count_dead(connection: apsw.Connection, which: Filter, plugins: Collection[str] | None = None) -> int:
    """How many dead letters a filter means; with `plugins`, of these only."""
    condition, values = _dead(which, plugins)
    [(count,)] = connection.execute(f"SELECT count(*) FROM parked WHERE {condition}", values)
    return int(count)


def discard_dead(connection: apsw.Connection, which: Filter, limit: int) -> int:
    """Give up to `limit` matching dead letters up; returns how many."""
    condition, values = _dead(which)
    connection.execute(
        "UPDATE parked SET state = ?"
        f" WHERE (plugin, seq) IN (SELECT plugin, seq FROM parked WHERE {condition} LIMIT ?)",
        (DISCARDED, *values, limit),
    )
    return connection.changes()


def retry_dead(connection: apsw.Connection, which: Filter, limit: int, plugins: Collection[str] | None = None) -> int:
    """Make up to `limit` matching dead letters due again, out of order; with `plugins`, of these only. Returns how
    many."""
    condition, values = _dead(which, plugins)
    connection.execute(
        "UPDATE parked SET state = 'retrying', attempts = 0, next_at = 0, conversation = NULL"
        f" WHERE (plugin, seq) IN (SELECT plugin, seq FROM parked WHERE {condition} LIMIT ?)",
        (*values, limit),
    )
    return connection.changes()
