"""When deliveries happened: attempts that failed or came after a failure, and marks of where a cursor was at a time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final, NamedTuple

import apsw

from gateway.journal.append import moment
from gateway.journal.attempts import MOST, Attempt
from gateway.journal.search import AttemptRow
from gateway.journal.sqlite.connection import rows

EVERY: Final = 10.0
"""Seconds between two marks of one cursor, at least."""


class Mark(NamedTuple):
    """A cursor moved to `seq`, at a time in seconds since 1970."""

    seq: int
    at: float


class Marks:
    """The last move of each cursor, until a mark of it is due. A settlement only notes it in memory."""

    def __init__(self) -> None:
        self._moved: dict[str, Mark] = {}
        self._kept: dict[str, float] = {}

    def moved(self, plugin: str, seq: int, at: float) -> None:
        """A cursor moved."""
        self._moved[plugin] = Mark(seq, at)

    def keep(self, connection: apsw.Connection, now: float, last: bool = False) -> None:
        """Write the marks that are due, or all when it is the last time; within a transaction. A mark that cannot be
        written is tried again."""
        for plugin in list(self._moved):
            if last or not 0 <= now - self._kept.get(plugin, 0.0) < EVERY:
                mark = self._moved.pop(plugin)
                try:
                    connection.execute("INSERT OR REPLACE INTO marks VALUES (?, ?, ?)", (plugin, mark.seq, mark.at))
                except apsw.Error:
                    self._moved.setdefault(plugin, mark)
                    raise
                self._kept[plugin] = now


def keep_attempts(connection: apsw.Connection, plugin: str, attempts: Iterable[Attempt]) -> None:
    """Keep the attempts of a plugin, of each event the last `MOST`."""
    for one in attempts:
        connection.execute(
            "INSERT OR REPLACE INTO attempts (seq, plugin, at, number, ms, error) SELECT ?1, ?, ?, ?, ?, ?"
            " WHERE EXISTS (SELECT 1 FROM events WHERE seq = ?1)",  # it may have been erased meanwhile
            (one.seq, plugin, round(one.at * 1_000_000), one.number, one.ms, one.error),
        )
        connection.execute(
            "DELETE FROM attempts WHERE seq = ?1 AND plugin = ?2 AND at <= (SELECT at FROM attempts WHERE seq = ?1"
            " AND plugin = ?2 ORDER BY at DESC LIMIT 1 OFFSET ?3)",
            (one.seq, plugin, MOST),
        )


def attempts_of(connection: apsw.Connection, seqs: Sequence[int]) -> dict[int, dict[str, list[AttemptRow]]]:
    """The attempts at these events by position and plugin, oldest first."""
    sql = f"SELECT seq, plugin, at, number, ms, error FROM attempts WHERE seq IN ({','.join('?' * len(seqs))})"
    found: dict[int, dict[str, list[AttemptRow]]] = {}
    for seq, plugin, at, number, ms, error in rows(connection, f"{sql} ORDER BY seq, plugin, at", seqs):
        made = AttemptRow(attempt=number, error=error or None, at=moment(at), ms=ms)
        found.setdefault(seq, {}).setdefault(plugin, []).append(made)
    return found


def passed(
    connection: apsw.Connection, plugin: str, seq: int, received_at: datetime
) -> tuple[datetime, datetime] | None:
    """Between which times the plugin's cursor passed an event; None where there is no mark of it yet."""
    sql = "SELECT at FROM marks WHERE plugin = ? AND seq"
    after = rows(connection, f"{sql} >= ? ORDER BY seq LIMIT 1", (plugin, seq))
    before = rows(connection, f"{sql} < ? ORDER BY seq DESC LIMIT 1", (plugin, seq))
    if not after:
        return None
    latest = moment(int(after[0][0] * 1_000_000))
    earliest = max([received_at, *(moment(int(at * 1_000_000)) for (at,) in before)])
    return min(earliest, latest), latest


def expire_marks(connection: apsw.Connection, before: float, limit: int) -> None:
    """Delete at most `limit` marks of each plugin older than `before`, in seconds since 1970."""
    for (plugin,) in rows(connection, "SELECT plugin FROM cursors"):
        old = "SELECT seq FROM (SELECT seq, at FROM marks WHERE plugin = ?1 ORDER BY seq LIMIT ?2) WHERE at < ?3"
        connection.execute(f"DELETE FROM marks WHERE plugin = ?1 AND seq IN ({old})", (plugin, limit, before))
