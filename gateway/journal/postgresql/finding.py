"""Finds the positions of events that match, page by page: by an index where the filter has one, else by reading."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple
from uuid import UUID

import msgspec

from gateway.journal.append import first_id
from gateway.journal.interface import Filter
from gateway.journal.postgresql.queries import left_to_check, where
from gateway.journal.postgresql.reading import Reading
from gateway.journal.postgresql.state_limits import EVERYTHING, StateLimits, limits_of, parked_pages

WINDOW: Final = 20_000
"""Positions that one statement reads."""
CLOCKS: Final = timedelta(hours=1)
"""How far the clocks of gateways may be apart for a search by time to be exact."""
_NEAR: Final = 1000
"""Events next to a moment that are looked at for the position of that moment."""


class _Positions(NamedTuple):
    """Positions after `after` up to `until`."""

    after: int
    until: int


class EventFinder:
    """Finds events in one journal."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self.unindexed = 0
        """Always 0: an index is as new as its table."""
        self.stop_at: float | None = None
        """When a search for the newest events ends before it has looked at all, by the monotonic clock."""
        self.stopped: int | None = None
        """Where the last search ended for that reason: it has looked at all events after this position."""

    def pages(self, which: Filter, size: int, newest: bool = False, before: int = EVERYTHING) -> Iterator[list[int]]:
        """The positions before `before` of the events that match, in order, or from the newest backwards; at most
        `size` in a page."""
        self.stopped = None
        first, last = self._between(which)
        if has_index(which):
            positions = _Positions(first - 1, min(last, before - 1))
            yield from self._searched(positions, which, size, newest, EVERYTHING)
            return
        low, high = self._ends()
        after, until = max(low, first) - 1, min(high, last, before - 1)
        limits = limits_of(self._reading, which)
        parts = [
            self._searched(_Positions(max(after, limits.after), min(until, limits.until)), which, size, newest, WINDOW)
        ]
        if limits.parked is not None:
            parts.append(self._parked(_Positions(after, min(until, limits.after)), which, limits, size, newest))
        for part in parts if newest else reversed(parts):
            if self.stopped is None:
                yield from part

    def _ends(self) -> tuple[int, int]:
        """The positions of the oldest and the newest event."""
        [(low, high)] = self._reading.rows("SELECT min(seq), max(seq) FROM events")
        return (1, 0) if low is None else (low, high)

    def _between(self, which: Filter) -> tuple[int, int]:
        """The first and the last position that `since` and `until` leave, or positions around these."""
        first, last = 1, EVERYTHING
        if which.since is not None:
            sql = f"SELECT min(seq) FROM (SELECT seq FROM events WHERE id >= $1 ORDER BY id LIMIT {_NEAR}) near"
            found = self._reading.value(sql, _first_id(which.since, -CLOCKS))
            first = EVERYTHING if found is None else found
        if which.until is not None:
            sql = f"SELECT max(seq) FROM (SELECT seq FROM events WHERE id < $1 ORDER BY id DESC LIMIT {_NEAR}) near"
            last = self._reading.value(sql, _first_id(which.until, CLOCKS)) or 0
        return first, last

    def _parked(
        self, span: _Positions, which: Filter, limits: StateLimits, size: int, newest: bool
    ) -> Iterator[list[int]]:
        """Those among the events that are parked in the state of the limits."""
        left = msgspec.structs.replace(which, state=None) if limits.exact else which
        condition, values = where(left, 2)
        source = f"SELECT seq, raw FROM events WHERE seq = ANY($1) AND ({condition}) ORDER BY seq {_order(newest)}"
        for found in parked_pages(self._reading, which, limits, span.after, span.until, size, newest):
            yield _checked(self._reading.rows(_columns(source, which), found, *values), which)
            if self._stops(found[-1] - 1, newest):
                return

    def _searched(self, span: _Positions, which: Filter, size: int, newest: bool, window: int) -> Iterator[list[int]]:
        """Those in a span; one statement reads at most `window` positions."""
        condition, values = where(which, 4)
        source = (
            "SELECT seq, raw FROM events WHERE seq > $1 AND seq <= $2"
            f" AND ({condition}) ORDER BY seq {_order(newest)} LIMIT $3"
        )
        after, until = span
        while after < until:
            begin = max(after, until - window) if newest else after
            end = until if newest or window == EVERYTHING else min(until, after + window)
            rows = self._reading.rows(_columns(source, which), begin, end, size, *values)
            if found := _checked(rows, which):
                yield found
            if len(rows) == size:  # there may be more in the window
                begin = end = rows[-1][0] - 1 if newest else rows[-1][0]
            after, until = (after, begin) if newest else (end, until)
            if after < until and self._stops(until, newest):
                return

    def _stops(self, until: int, newest: bool) -> bool:
        """Whether a search for the newest events has read for long enough; it has looked at all after `until`."""
        if newest and self.stop_at is not None and time.monotonic() > self.stop_at:
            self.stopped = until
        return self.stopped is not None


def has_index(which: Filter) -> bool:
    """Whether an index finds the few events that a filter can match."""
    return bool(which.ids or which.names) or any(
        one is not None for one in (which.customer, which.conversation, which.address)
    )


def _checked(rows: Sequence[Any], which: Filter) -> list[int]:
    """The positions of the rows whose bodies match."""
    check: Callable[[bytes], bool] | None = left_to_check(which)
    return [row[0] for row in rows if check is None or check(row[1])]


def _columns(source: str, which: Filter) -> str:
    """The statement without the bodies, where nothing is left to check of them."""
    return source if left_to_check(which) is not None else source.replace("SELECT seq, raw", "SELECT seq", 1)


def _order(newest: bool) -> str:
    return "DESC" if newest else "ASC"


def _first_id(moment: datetime, away: timedelta) -> UUID:
    """The smallest id of a time that is `away` from the moment; it may be before the year 1 or after the year 9999."""
    return UUID(first_id(round((moment.timestamp() + away.total_seconds()) * 1_000_000)))
