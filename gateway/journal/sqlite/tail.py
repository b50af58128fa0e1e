"""The newest events in memory, from which plugins that keep up are served."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Sequence
from typing import Final

from gateway.journal.append import Append
from gateway.journal.interface import Entry
from gateway.large_bodies import LARGE

TAIL_EVENTS: Final = 4096
TAIL_BYTES: Final = 32 * 2**20
"""At most twice this number of events, and about this many bytes of bodies."""


class Tail:
    """The events after the position `after`, without those that were erased."""

    def __init__(self, after: int) -> None:
        self.after = after
        self._entries: list[Entry] = []
        self._bytes = 0

    def read(self, after: int, limit: int) -> list[Entry]:
        """At most `limit` events after a position that is not before `self.after`."""
        start = bisect_right(self._entries, after, key=lambda entry: entry.seq)
        return self._entries[start : start + limit]

    def add(self, appends: Sequence[Append]) -> None:
        """Add what was committed; duplicates are left out, and the oldest events go where there are too many.
        All go before a large event, which has no payload here (see `Decoder.decode_large`)."""
        for append in appends:
            if not append.seq:
                continue
            if len(append.event.raw) > LARGE:
                self._entries, self._bytes, self.after = [], 0, append.seq
            else:
                self._entries.append(Entry(append.seq, append.event))
                self._bytes += len(append.event.raw)
        if len(self._entries) > 2 * TAIL_EVENTS or self._bytes > TAIL_BYTES:
            self._trim()

    def forget(self, seqs: Collection[int]) -> None:
        """Leave out the events at these positions."""
        gone = set(seqs)
        self._entries = [entry for entry in self._entries if entry.seq not in gone]
        self._bytes = sum(len(entry.event.raw) for entry in self._entries)

    def _trim(self) -> None:
        while len(self._entries) > TAIL_EVENTS or self._bytes > TAIL_BYTES:
            gone = self._entries[: max(1, len(self._entries) // 2)]
            del self._entries[: len(gone)]
            self._bytes -= sum(len(entry.event.raw) for entry in gone)
            self.after = gone[-1].seq
