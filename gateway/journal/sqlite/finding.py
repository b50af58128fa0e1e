"""Finds the positions of events that match, page by page: by the search index as far as that is, else by reading."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, Final, NamedTuple

import apsw
import msgspec

from gateway.journal.damage import DamagedPlace
from gateway.journal.interface import Filter
from gateway.journal.sqlite.connection import rows
from gateway.journal.sqlite.queries import EVERYTHING, page_from, span, where
from gateway.journal.sqlite.search_file import IndexDamaged, Part, SearchFile, query_of, sound_parts
from gateway.journal.sqlite.state_bounds import StateBounds, bounds_of, parked_pages

PAGE: Final = 500
WINDOW: Final = 5000
"""Positions that one statement reads."""
MOST_FILTERS: Final = 100
"""Filters of one query."""


class _Span(NamedTuple):
    """Positions after `after` up to `until`; `part` is the part of the index that has all of them, or None."""

    after: int
    until: int
    part: Part | None = None


class Finder:
    """Finds events in one journal; `index` is its search index where it has one."""

    def __init__(self, journal: apsw.Connection, index: SearchFile | None = None) -> None:
        self._journal = journal
        self._index = index
        self.unindexed = 0
        """How many positions the last search read one by one, because the index does not have them yet."""
        self.stop_at: float | None = None
        """When a search for the newest events ends before it has looked at all, by the monotonic clock."""
        self.stopped: int | None = None
        """Where the last search ended for that reason: it has looked at all events after this position."""

    def connections(self) -> Iterator[apsw.Connection]:
        """Those that it reads by."""
        yield self._journal
        if self._index is not None:
            yield self._index.connection

    def close(self) -> None:
        if self._index is not None:
            self._index.close()

    def find(self, which: Sequence[Filter]) -> list[int]:
        """The positions of the events that match any of these filters, in order. Times in the filters must be equal."""
        found: set[int] = set()
        for start in range(0, len(which), MOST_FILTERS):
            found.update(chain.from_iterable(self.pages(which[start : start + MOST_FILTERS], PAGE)))
        return sorted(found)

    def pages(
        self, which: Sequence[Filter], size: int, newest: bool = False, before: int = EVERYTHING
    ) -> Iterator[list[int]]:
        """The positions before `before` of the events that match any of these filters, in order, or from the newest
        backwards; at most `size` in a page."""
        self.unindexed, self.stopped = 0, None
        if not which:
            return
        first, last = span(self._journal, which[0])
        last = min(last, before - 1)
        bounds = bounds_of(self._journal, which[0]) if len(which) == 1 else StateBounds()
        parts = [self._searched(_Span(max(first - 1, bounds.after), min(last, bounds.until)), which, size, newest)]
        if bounds.parked is not None:
            below = _Span(first - 1, min(last, bounds.after))
            parts.append(self._parked(below, bounds.parked, which[0], bounds.exact, size, newest))
        for part in parts if newest else reversed(parts):
            if self.stopped is None:
                yield from part

    def _parked(
        self, whole: _Span, state: str, which: Filter, exact: bool, size: int, newest: bool
    ) -> Iterator[list[int]]:
        """Those among the events that are parked in a state; `exact` is whether all of these are in that state."""
        condition, values = where(msgspec.structs.replace(which, state=None) if exact else which)
        for found in parked_pages(self._journal, state, which.plugin, whole.after, whole.until, size, newest):
            yield self._matching(found, condition, values, newest)
            if self._stops(found[-1] - 1, newest):
                return

    def _matching(self, found: Sequence[int], condition: str, values: Sequence[Any], newest: bool) -> list[int]:
        order, marks = "DESC" if newest else "ASC", ",".join("?" * len(found))
        sql = f"SELECT seq FROM events WHERE seq IN ({marks}) AND ({condition}) ORDER BY seq {order}"
        return [seq for (seq,) in rows(self._journal, sql, (*found, *values))]

    def _searched(self, whole: _Span, which: Sequence[Filter], size: int, newest: bool) -> Iterator[list[int]]:
        """Those in a span, by the index as far as it is, else by reading."""
        conditions = [where(one) for one in which]
        condition = " OR ".join(f"({condition})" for condition, _ in conditions)
        values = [value for _, values in conditions for value in values]
        queries = [query_of(one) for one in which]
        spans = [whole] if None in queries else self._spans(whole)
        query = " OR ".join(f"({one})" for one in queries)
        for one in reversed(spans) if newest else spans:
            if one.part is not None:
                try:
                    for found in self._candidates(one, one.part, query, size, newest):
                        yield self._matching(found, condition, values, newest)
                        one = _Span(one.after, found[-1] - 1) if newest else _Span(found[-1], one.until)
                        if self._stops(one.until, newest):
                            return
                    continue
                except apsw.Error:
                    pass  # the part was dropped meanwhile, or is damaged: what is left of it is read
            order = "DESC" if newest else "ASC"
            source = page_from(which[0])
            sql = f"SELECT seq FROM {source} WHERE seq > ? AND seq <= ? AND ({condition}) ORDER BY seq {order} LIMIT ?"
            window = EVERYTHING if which[0].ids or which[0].names else WINDOW  # those have an index
            yield from self._scanned(one, sql, values, size, newest, window)
            if self.stopped is not None:
                return

    def _stops(self, until: int, newest: bool) -> bool:
        """Whether a search for the newest events has read for long enough; it has looked at all after `until`."""
        if newest and self.stop_at is not None and time.monotonic() > self.stop_at:
            self.stopped = until
        return self.stopped is not None

    def _spans(self, whole: _Span) -> list[_Span]:
        """The positions, as far as they are indexed and as far as they are not."""
        # one statement with both would read the whole table
        low, high = (rows(self._journal, f"SELECT {one}(seq) FROM events")[0][0] or 0 for one in ("min", "max"))
        spans, after, until = [], max(whole.after, low - 1), min(whole.until, high)
        self.unindexed = 0
        for part in self._parts(high):
            begin, end = max(after, part.after), min(until, part.upto)
            if begin < end:
                if after < begin:
                    spans.append(_Span(after, begin))
                spans.append(_Span(begin, end, part))
                after = end
        if after < until:
            spans.append(_Span(after, until))
        self.unindexed = sum(span.until - span.after for span in spans if span.part is None)
        return spans

    def _parts(self, newest: int) -> list[Part]:
        try:
            return list(sound_parts(self._journal, self._index.parts() if self._index else [], newest))
        except (apsw.Error, IndexDamaged):
            return []

    def _candidates(self, one: _Span, part: Part, query: str, size: int, newest: bool) -> Iterator[Sequence[int]]:
        after, until = one.after, one.until
        while self._index is not None and after < until:
            found = self._index.candidates(part, query, after, until, size, newest)
            if found:
                yield found
            if len(found) < size:
                return
            after, until = (after, found[-1] - 1) if newest else (found[-1], until)

    def _scanned(
        self, one: _Span, sql: str, values: Sequence[Any], size: int, newest: bool, window: int
    ) -> Iterator[list[int]]:
        low, high = (rows(self._journal, f"SELECT {one}(seq) FROM events")[0][0] or 0 for one in ("min", "max"))
        after, until = max(one.after, low - 1), one.until
        while after < until:
            begin, end = after, until
            if newest:
                begin = max(after, min(until, high) - window)
            elif after + window < high:
                end = min(until, after + window)
            found = [seq for (seq,) in rows(self._journal, sql, (begin, end, *values, size))]
            if found:
                yield found
                if found[-1] > end if newest else found[-1] <= begin:  # or it would go on for ever
                    raise DamagedPlace("the order of its rows")
            if len(found) == size:
                begin, end = (found[-1] - 1,) * 2 if newest else (found[-1],) * 2
            after, until = (after, begin) if newest else (end, until)
            if self._stops(until, newest):
                return
