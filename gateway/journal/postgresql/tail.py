"""The newest events in memory, read from the database once for all plugins and shards of this gateway."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import Final, NamedTuple

from gateway.events import Event
from gateway.journal.interface import Entry

EVENTS: Final = 4096
BYTES: Final = 32 * 2**20
"""At most twice this number of events, and about this many bytes of bodies."""


class BucketEvent(NamedTuple):
    """An event at its position, and its bucket."""

    seq: int
    bucket: int
    event: Event


class Piece(NamedTuple):
    """Events in order, and the position up to which there are no others."""

    rows: Sequence[BucketEvent]
    through: int


Belongs = Callable[[BucketEvent], bool]
"""Whether an event belongs to a shard and is not settled in it yet."""


class SharedTail:
    """All events after `after` up to `through`. `read` reads what comes next: those after a position."""

    def __init__(self, after: int, read: Callable[[int], Awaitable[Piece]]) -> None:
        self.after = self.through = after
        self._read = read
        self._rows: list[BucketEvent] = []
        self._bytes = 0
        self._reading = asyncio.Lock()
        self._start = 0
        """Counts how often the tail was begun anew."""

    async def follow(self, after: int, newest: int) -> None:
        """Read on, if there are newer events than those up to a position."""
        if self.through > after or newest <= after:
            return
        async with self._reading:
            while self.through <= after and self.through < newest:  # else another shard has read it
                start = self._start
                piece = await self._read(self.through)
                if start == self._start:
                    self._rows += piece.rows
                    self._bytes += sum(len(row.event.raw) for row in piece.rows)
                    self.through = piece.through
                    self._trim()

    def entries(self, after: int, limit: int, has: Belongs) -> tuple[list[Entry], int]:
        """At most `limit` events of a shard after a position that is not before `self.after`, and up to which position
        they are all."""
        found: list[Entry] = []
        start = bisect_right(self._rows, after, key=lambda row: row.seq)
        for index in range(start, len(self._rows)):
            row = self._rows[index]
            if has(row):
                found.append(Entry(row.seq, row.event))
                if len(found) == limit:
                    return found, row.seq
        return found, max(after, self.through)

    def forget(self, seqs: Collection[int]) -> None:
        """Leave out the events at these positions."""
        gone = set(seqs)
        self._rows = [row for row in self._rows if row.seq not in gone]
        self._bytes = sum(len(row.event.raw) for row in self._rows)
        self._start += 1

    def begin(self, after: int) -> None:
        """Forget everything, and go on after a position."""
        self.after = self.through = after
        self._rows, self._bytes = [], 0
        self._start += 1

    def _trim(self) -> None:
        if len(self._rows) <= 2 * EVENTS and self._bytes <= BYTES:
            return
        while len(self._rows) > EVENTS or self._bytes > BYTES:
            gone = self._rows[: max(1, len(self._rows) // 2)]
            del self._rows[: len(gone)]
            self._bytes -= sum(len(row.event.raw) for row in gone)
            self.after = gone[-1].seq
