"""What a plugin's delivery writes: its cursor, parked events, suspects of a crash, the progress of replays. The
functions do what the methods of `Cursors` state, each as one operation within a commit."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import apsw
import msgspec

from gateway.events import UNKNOWN
from gateway.journal.interface import (
    DELIVERED,
    EVERY_HOOK,
    UNORDERED,
    Changes,
    Filter,
    JournalDamaged,
    LeaseLost,
    Parked,
    Replay,
    Settlement,
    Standing,
    Track,
)
from gateway.journal.sqlite.checksum import SEAL_CURSORS, SOUND_CURSOR
from gateway.journal.sqlite.connection import rows
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
        "INSERT INTO cursors (plugin, begins, seq, checksum) VALUES (?1, ?2, ?2, row_checksum(?1, ?2, ?2, NULL, 0, 1))"
        " ON CONFLICT (plugin) DO NOTHING",
        (plugin, begins),
    )
    sql = f"SELECT seq, epoch, clean, {SOUND_CURSOR} FROM cursors WHERE plugin = ?"
    [(cursor, epoch, clean, sound)] = rows(connection, sql, (plugin,))
    if not sound:
        raise _damaged(plugin)
    change(connection, plugin, "epoch = epoch + 1, clean = 0, removed_at = NULL")
    _note_hooks(connection, plugin, cursor, hooks)
    connection.execute("UPDATE suspects SET crashes = crashes + 1, running = 0 WHERE plugin = ? AND running", (plugin,))
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
        connection.execute("INSERT OR REPLACE INTO takes VALUES (?, ?, ?)", (plugin, cursor, noted))


def change(connection: apsw.Connection, plugin: str, assignments: str, *values: object) -> None:
    """Change columns of a plugin's cursor, and its checksum with them."""
    connection.execute(f"UPDATE cursors SET {assignments} WHERE plugin = ?", (*values, plugin))
    connection.execute(f"{SEAL_CURSORS} WHERE plugin = ?", (plugin,))


def _damaged(plugin: str) -> JournalDamaged:
    return JournalDamaged(f"the cursor of plugin {plugin} is damaged; run `gateway journal check`")


def _require_lease(connection: apsw.Connection, track: Track, epoch: int) -> None:
    found = rows(connection, f"SELECT epoch, {SOUND_CURSOR} FROM cursors WHERE plugin = ?", (track.plugin,))
    if found == [(epoch, 0)]:
        raise _damaged(track.plugin)
    if found != [(epoch, 1)]:
        raise LeaseLost(f"the cursor of plugin {track.plugin} has been taken again")


def release(connection: apsw.Connection, track: Track, epoch: int, clean: bool) -> None:
    _require_lease(connection, track, epoch)
    connection.execute("UPDATE suspects SET running = 0 WHERE plugin = ?", (track.plugin,))
    change(connection, track.plugin, "clean = ?", clean)


def changes(connection: apsw.Connection, track: Track) -> Changes:
    """See `Cursors.changes`: events of conversations in order, then the first `UNORDERED` others."""
    sql = f"SELECT {_PARKED} FROM parked WHERE plugin = ? AND state IN ('retrying', 'waiting')"
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
            f"INSERT OR REPLACE INTO parked (plugin, {_PARKED}) VALUES (?,?,?,?,?,?,?,?,?,?)",
            (plugin, *msgspec.structs.astuple(row)),
        )
    for seq in settlement.release:
        connection.execute("DELETE FROM parked WHERE plugin = ? AND seq = ?", (plugin, seq))
    for seq in settlement.replayed:
        connection.execute(_REPLAYED, (seq, plugin))
    if settlement.cursor is not None:
        change(connection, plugin, "seq = ?", settlement.cursor)
    if settlement.replay is not None:
        number, position, done = settlement.replay
        connection.execute(
            "UPDATE replays SET position = ?1, done = done + ?2,"
            " finished_at = CASE WHEN ?1 >= until THEN ?3 END WHERE number = ?4",
            (position, done, now, number),
        )


def mark_running(connection: apsw.Connection, track: Track, epoch: int, seq: int) -> None:
    _require_lease(connection, track, epoch)
    connection.execute(
        "INSERT INTO suspects VALUES (?, ?, 0, 1) ON CONFLICT (plugin, seq) DO UPDATE SET running = 1",
        (track.plugin, seq),
    )


def mark_survived(connection: apsw.Connection, track: Track, epoch: int, seq: int) -> None:
    _require_lease(connection, track, epoch)
    connection.execute("DELETE FROM suspects WHERE plugin = ? AND seq = ?", (track.plugin, seq))


def retire(connection: apsw.Connection, keep: Collection[str], now: float) -> None:
    """See `Operator.retire_cursors`; `now` is seconds since 1970."""
    marks = ",".join("?" * len(keep))
    condition = f"removed_at IS NULL AND plugin NOT IN ({marks}) AND {SOUND_CURSOR}"
    gone = rows(connection, f"SELECT plugin FROM cursors WHERE {condition}", tuple(keep))
    for (plugin,) in gone:
        change(connection, plugin, "removed_at = ?", now)


def expire(connection: apsw.Connection, oldest: float) -> None:
    """Drop everything of plugins that were retired before `oldest` (seconds since 1970)."""
    for (plugin,) in rows(connection, f"SELECT plugin FROM cursors WHERE removed_at < ? AND {SOUND_CURSOR}", (oldest,)):
        for table in ("cursors", "parked", "suspects", "replays", "takes"):
            connection.execute(f"DELETE FROM {table} WHERE plugin = ?", (plugin,))
