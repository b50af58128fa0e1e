"""What a plugin's delivery writes: its cursor, parked events, suspects of a crash, the progress of replays. The
functions do what the methods of `Cursors` state, each as one operation within a commit."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import apsw
import msgspec

from gateway.events import UNKNOWN
from gateway.journal.damage import DamagedPlace
from gateway.journal.interface import (
    DELIVERED,
    EVERY_HOOK,
    UNORDERED,
    Changes,
    Filter,
    LeaseLost,
    Parked,
    Replay,
    Settlement,
    Standing,
    Track,
)
from gateway.journal.sqlite.checksum import OF_PLUGINS, SEAL, SOUND, damaged_places
from gateway.journal.sqlite.connection import rows
from gateway.journal.sqlite.progress import keep_attempts
from gateway.journal.sqlite.queries import HAD_HOOK

_PARKED = "seq, state, attempts, next_at, error, since, conversation, replayed, asked"
_REPLAYED = (
    f"INSERT OR IGNORE INTO parked (plugin, {_PARKED})"
    f" SELECT c.plugin, events.seq, '{DELIVERED}', 0, 0, '', 0, NULL, 1, 0"
    " FROM events JOIN cursors c ON events.seq = ? AND c.plugin = ?"
    f" WHERE (events.name IS NOT NULL AND events.hook <> '{UNKNOWN}') OR NOT {HAD_HOOK}"
)
"""Keeps that a plugin has an event after all: it had no hook for it when it came, or got it as unknown."""
REPLAY = "number, plugin, filter, position, until, matched, done"


def take(connection: apsw.Connection, track: Track, begins: int, hooks: Collection[str]) -> Standing:
    """See `Cursors.take_cursor`. `begins` is where a new cursor begins."""
    plugin = track.plugin
    connection.execute(
        "INSERT INTO cursors (plugin, begins, seq) VALUES (?1, ?2, ?2) ON CONFLICT (plugin) DO NOTHING",
        (plugin, begins),
    )
    if connection.changes():
        connection.execute(f"{SEAL['cursors']} WHERE plugin = ?", (plugin,))
    require_sound(connection, plugin)
    [(cursor, epoch, clean)] = rows(connection, "SELECT seq, epoch, clean FROM cursors WHERE plugin = ?", (plugin,))
    change(connection, plugin, "epoch = epoch + 1, clean = 0, removed_at = NULL")
    _note_hooks(connection, plugin, cursor, hooks)
    connection.execute("UPDATE suspects SET crashes = crashes + 1, running = 0 WHERE plugin = ? AND running", (plugin,))
    connection.execute(f"{SEAL['suspects']} WHERE plugin = ?", (plugin,))
    dead = rows(
        connection,
        "SELECT seq FROM parked WHERE plugin = ? AND seq > ? AND state IN ('dead', 'discarded')",
        (plugin, cursor),
    )
    found = changes(connection, track)
    return Standing(
        epoch=epoch + 1,
        cursor=cursor,
        clean=bool(clean),
        parked=found.parked,
        dead_ahead=[seq for (seq,) in dead],
        replays=found.replays,
        crashes=dict(rows(connection, "SELECT seq, crashes FROM suspects WHERE plugin = ? AND crashes", (plugin,))),
    )


def _note_hooks(connection: apsw.Connection, plugin: str, cursor: int, hooks: Collection[str]) -> None:
    """Keep from which position on a plugin has which hooks, where they have changed."""
    noted = EVERY_HOOK if EVERY_HOOK in hooks else f",{','.join(sorted(hooks))},"
    last = rows(connection, "SELECT hooks FROM takes WHERE plugin = ? ORDER BY position DESC LIMIT 1", (plugin,))
    if last != [(noted,)]:
        connection.execute(
            "INSERT OR REPLACE INTO takes (plugin, position, hooks) VALUES (?, ?, ?)", (plugin, cursor, noted)
        )
        connection.execute(f"{SEAL['takes']} WHERE plugin = ? AND position = ?", (plugin, cursor))


def change(connection: apsw.Connection, plugin: str, assignments: str, *values: object) -> None:
    """Change columns of a plugin's cursor, and its checksum with them."""
    connection.execute(f"UPDATE cursors SET {assignments} WHERE plugin = ?", (*values, plugin))
    connection.execute(f"{SEAL['cursors']} WHERE plugin = ?", (plugin,))


def _seal_one(connection: apsw.Connection, table: str, plugin: str, seq: int) -> None:
    connection.execute(f"{SEAL[table]} WHERE plugin = ? AND seq = ?", (plugin, seq))


def require_sound(connection: apsw.Connection, plugin: str) -> None:
    """`DamagedPlace` where a row that decides what a plugin gets is not what was written."""
    for table in OF_PLUGINS:
        for place in damaged_places(connection, table, plugin):
            raise DamagedPlace(place)


def _require_lease(connection: apsw.Connection, track: Track, epoch: int) -> None:
    found = rows(connection, f"SELECT epoch, {SOUND['cursors']} FROM cursors WHERE plugin = ?", (track.plugin,))
    if found == [(epoch, 0)]:
        raise DamagedPlace(f"the cursor of plugin {track.plugin}")
    if found != [(epoch, 1)]:
        raise LeaseLost(f"the cursor of plugin {track.plugin} has been taken again")


def release(connection: apsw.Connection, track: Track, epoch: int, clean: bool) -> None:
    _require_lease(connection, track, epoch)
    running = f"plugin = ? AND running AND {SOUND['suspects']}"
    for (seq,) in rows(connection, f"UPDATE suspects SET running = 0 WHERE {running} RETURNING seq", (track.plugin,)):
        _seal_one(connection, "suspects", track.plugin, seq)
    change(connection, track.plugin, "clean = ?", clean)


def changes(connection: apsw.Connection, track: Track) -> Changes:
    """See `Cursors.changes`: events of conversations in order, then the first `UNORDERED` others."""
    sql = f"SELECT {_PARKED} FROM parked WHERE plugin = ? AND state IN ('retrying', 'waiting')"
    for place in damaged_places(connection, "parked", track.plugin, "state IN ('retrying', 'waiting')"):
        raise DamagedPlace(place)
    ordered = rows(connection, f"{sql} AND conversation IS NOT NULL ORDER BY seq", (track.plugin,))
    unordered = rows(connection, f"{sql} AND conversation IS NULL ORDER BY seq LIMIT {UNORDERED}", (track.plugin,))
    replays = rows(
        connection,
        f"SELECT {REPLAY} FROM replays WHERE plugin = ? AND finished_at IS NULL ORDER BY number",
        (track.plugin,),
    )
    return Changes([_parked_of(row) for row in (*ordered, *unordered)], [replay_of(row) for row in replays])


def _parked_of(row: Sequence[object]) -> Parked:
    values = dict(zip(Parked.__struct_fields__, row, strict=True))
    values |= {name: bool(values[name]) for name in ("replayed", "asked")}  # SQLite has numbers only
    return Parked(**values)  # type: ignore[arg-type]


def replay_of(row: Sequence[object]) -> Replay:
    """A replay from a row of `REPLAY`."""
    values = dict(zip(Replay.__struct_fields__, row, strict=True))
    values["filter"] = msgspec.json.decode(str(values["filter"]), type=Filter)
    return Replay(**values)  # type: ignore[arg-type]


def settle(connection: apsw.Connection, settlement: Settlement, now: float) -> None:
    """See `Cursors.settle`; `now` is seconds since 1970."""
    plugin = settlement.track.plugin
    _require_lease(connection, settlement.track, settlement.epoch)
    for row in settlement.park:
        connection.execute(
            f"INSERT OR REPLACE INTO parked (plugin, {_PARKED}) SELECT ?,?,?,?,?,?,?,?,?,?"
            " WHERE EXISTS (SELECT 1 FROM events WHERE seq = ?)",  # it may have been erased meanwhile
            (plugin, *msgspec.structs.astuple(row), row.seq),
        )
        _seal_one(connection, "parked", plugin, row.seq)
    for seq in settlement.release:
        connection.execute("DELETE FROM parked WHERE plugin = ? AND seq = ?", (plugin, seq))
    got = [(plugin, seq) for seq in (*(row.seq for row in settlement.park), *settlement.release)]
    connection.executemany("DELETE FROM retried WHERE plugin = ? AND seq = ?", got)
    for seq in settlement.replayed:
        connection.execute(_REPLAYED, (seq, plugin))
        if connection.changes():
            _seal_one(connection, "parked", plugin, seq)
    if settlement.attempts:
        keep_attempts(connection, plugin, settlement.attempts)
    if settlement.cursor is not None:
        change(connection, plugin, "seq = ?", settlement.cursor)
    if settlement.replay is not None:
        number, position, done = settlement.replay
        connection.execute(
            "UPDATE replays SET position = ?1, done = done + ?2, finished_at = coalesce(finished_at,"
            f" CASE WHEN ?1 >= until THEN ?3 END) WHERE number = ?4 AND {SOUND['replays']}",
            (position, done, now, number),
        )
        if connection.changes():
            connection.execute(f"{SEAL['replays']} WHERE number = ?", (number,))


def mark_running(connection: apsw.Connection, track: Track, epoch: int, seq: int) -> None:
    _require_lease(connection, track, epoch)
    connection.execute(
        "INSERT INTO suspects (plugin, seq, crashes, running) VALUES (?, ?, 0, 1)"
        " ON CONFLICT (plugin, seq) DO UPDATE SET running = 1",
        (track.plugin, seq),
    )
    _seal_one(connection, "suspects", track.plugin, seq)


def mark_survived(connection: apsw.Connection, track: Track, epoch: int, seq: int) -> None:
    _require_lease(connection, track, epoch)
    connection.execute("DELETE FROM suspects WHERE plugin = ? AND seq = ?", (track.plugin, seq))


def retire(connection: apsw.Connection, keep: Collection[str], now: float) -> None:
    """See `Operator.retire_cursors`; `now` is seconds since 1970."""
    marks = ",".join("?" * len(keep))
    condition = f"removed_at IS NULL AND plugin NOT IN ({marks}) AND {SOUND['cursors']}"
    gone = rows(connection, f"SELECT plugin FROM cursors WHERE {condition}", tuple(keep))
    for (plugin,) in gone:
        change(connection, plugin, "removed_at = ?", now)


def expire(connection: apsw.Connection, oldest: float) -> None:
    """Drop everything of plugins that were retired before `oldest` (seconds since 1970)."""
    for (plugin,) in rows(
        connection, f"SELECT plugin FROM cursors WHERE removed_at < ? AND {SOUND['cursors']}", (oldest,)
    ):
        for table in ("cursors", "parked", "suspects", "replays", "takes", "attempts", "marks", "retried"):
            connection.execute(f"DELETE FROM {table} WHERE plugin = ?", (plugin,))
