"""Finds the positions of events that match, page by page: by the search index as far as that is, else by reading."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, Final, NamedTuple

import apsw

from gateway.journal.damage import DamagedPlace
from gateway.journal.interface import Filter
from gateway.journal.sqlite.connection import rows
from gateway.journal.sqlite.queries import EVERYTHING, page_from, span, where
from gateway.journal.sqlite.search_file import IndexDamaged, Part, SearchFile, query_of, sound_parts

PAGE: Final = 500
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
        conditions = [where(one) for one in which]
        condition = " OR ".join(f"({condition})" for condition, _ in conditions)
        values = [value for _, values in conditions for value in values]
        order = "DESC" if newest else "ASC"
        queries = [query_of(one) for one in which]
        first, last = span(self._journal, which[0]) if which else (1, 0)
        spans = [_Span(first - 1, min(last, before - 1))]
        if None not in queries:
            spans = self._spans(spans[0])
        query = " OR ".join(f"({one})" for one in queries)
        for one in reversed(spans) if newest else spans:
            if one.part is not None:
                sql = f"SELECT seq FROM events WHERE seq IN ({{}}) AND ({condition}) ORDER BY seq {order}"
                try:
                    for found in self._candidates(one, one.part, query, size, newest):
                        marks = ",".join("?" * len(found))
                        yield [seq for (seq,) in rows(self._journal, sql.format(marks), (*found, *values))]
                        one = _Span(one.after, found[-1] - 1) if newest else _Span(found[-1], one.until)
                    continue
                except apsw.Error:
                    pass  # the part was dropped meanwhile, or is damaged: what is left of it is read
            source = page_from(which[0])
            sql = f"SELECT seq FROM {source} WHERE seq > ? AND seq <= ? AND ({condition}) ORDER BY seq {order} LIMIT ?"
            yield from self._scanned(one, sql, values, size, newest)

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

    def _scanned(self, one: _Span, sql: str, values: Sequence[Any], size: int, newest: bool) -> Iterator[list[int]]:
        after, until = one.after, one.until
        while after < until:
            found = [seq for (seq,) in rows(self._journal, sql, (after, until, *values, size))]
            if not found:
                return
            yield found
            if found[-1] > until if newest else found[-1] <= after:  # or it would go on for ever
                raise DamagedPlace("the order of its rows")
            after, until = (after, found[-1] - 1) if newest else (found[-1], until)
