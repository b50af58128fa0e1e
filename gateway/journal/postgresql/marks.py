"""Where each cursor was at which time; searches tell by it when an event was delivered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from gateway.journal.interface import Track

if TYPE_CHECKING:
    from gateway.journal.postgresql.connection import DatabaseConnection

EVERY: Final = 10.0
"""Seconds between two marks of one cursor, at least."""
_INSERT: Final = (
    "INSERT INTO marks (plugin, shard, seq, at) SELECT plugin, shard, seq, to_timestamp(at) FROM"
    " unnest($1::text[], $2::int[], $3::bigint[], $4::float8[]) AS m(plugin, shard, seq, at)"
    " ON CONFLICT (plugin, shard, seq) DO UPDATE SET at = excluded.at"
)


class CursorMarks:
    """The last move of each cursor, until a mark of it is due. A settlement only notes it in memory."""

    def __init__(self) -> None:
        self._moved: dict[Track, tuple[int, float]] = {}
        self._kept: dict[Track, float] = {}

    def moved(self, track: Track, seq: int, at: float) -> None:
        """A cursor moved, at a time in seconds since 1970."""
        self._moved[track] = seq, at

    async def keep(self, connection: DatabaseConnection, now: float, last: bool = False) -> None:
        """Write the marks that are due, or all when it is the last time. What cannot be written is tried again."""
        due = [track for track in self._moved if last or not 0 <= now - self._kept.get(track, 0.0) < EVERY]
        if not due:
            return
        rows = [(*track, *self._moved[track]) for track in due]
        await connection.execute(_INSERT, *zip(*rows, strict=True))
        for track, row in zip(due, rows, strict=True):
            self._kept[track] = now
            if self._moved[track] == row[2:]:
                del self._moved[track]
