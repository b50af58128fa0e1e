"""Lists in pages. A page is bounded in entries and in bytes, and says from where the next one goes on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Final, Generic, Protocol, TypeVar

import msgspec

from gateway.config.field_types import show
from gateway.http.api.query import Invalid
from gateway.journal.interface import Filter
from gateway.journal.search import EventHappened, EventRow, Search, ValueRecord, ValueRecordFilter, ValuesAsked

PAGE_BYTES: Final = 8 * 2**20
"""Bytes of bodies from which a page ends."""
_CHUNK: Final = 25
"""Events that are read at a time; their bodies may be large."""
_INSTANT: Final = timedelta(microseconds=1)
Happened = EventHappened | ValuesAsked
T = TypeVar("T")


class Page(msgspec.Struct, Generic[T], kw_only=True):
    """Entries of a list, and the cursor of the next page, or None where this is the last."""

    items: list[T]
    next: str | None


class _Timed(Protocol):
    at: datetime


_Entry = TypeVar("_Entry", bound=_Timed)


class PagePlace(msgspec.Struct, frozen=True):
    """Where a page of a list by time goes on: at this time, after `passed` entries of it."""

    at: datetime
    passed: int

    @classmethod
    def of(cls, text: str) -> PagePlace:
        """The place that a cursor names; `Invalid`."""
        moment, _, passed = text.partition("~")
        try:
            at = datetime.fromisoformat(moment)
            if at.tzinfo is not None and passed.isdigit() and len(passed) < 10:
                return cls(at, int(passed))
        except ValueError:
            pass
        raise Invalid("cursor", f"expected the next of the page before, found {show(text)}")

    def __str__(self) -> str:
        return f"{self.at.isoformat()}~{self.passed}"


def newest_events(search: Search, which: Filter, limit: int, before: str | None) -> Page[EventRow]:
    """Matching events, the newest first, that came before the event with the id `before`. Where few of many events
    match, a page may have fewer than `limit`, or none, and a next one."""
    items: list[EventRow] = []
    size = 0
    while True:
        wanted, damaged = min(_CHUNK, limit + 1 - len(items)), len(search.damaged)
        found = list(search.events(which, wanted, newest=True, before=before))[::-1]
        for row in found:
            if len(items) == limit or (items and size + len(bytes(row.body)) > PAGE_BYTES):
                return Page(items=items, next=items[-1].id)
            items.append(row)
            size += len(bytes(row.body))
            before = row.id
        if (rest := search.goes_on_before()) is not None:
            return Page(items=items, next=rest)
        if not found or len(found) + len(search.damaged) - damaged < wanted:
            return Page(items=items, next=None)


def timeline(search: Search, which: Filter, limit: int, cursor: str | None) -> Page[Happened]:
    """What happened, the oldest first."""
    place = None if cursor is None else PagePlace.of(cursor)
    if place is not None:
        which = msgspec.structs.replace(which, since=place.at)
    return _page(search.timeline(which), limit, place)


def value_records(search: Search, which: ValueRecordFilter, limit: int, cursor: str | None) -> Page[ValueRecord]:
    """Custom value requests, the newest first."""
    place = None if cursor is None else PagePlace.of(cursor)
    if place is not None:
        which = msgspec.structs.replace(which, until=place.at + _INSTANT)
    most = limit + 1 + (0 if place is None else place.passed)
    return _page(list(search.value_records(which, most, newest=True))[::-1], limit, place)


def _page(entries: Iterable[_Entry], limit: int, place: PagePlace | None) -> Page[_Entry]:
    items: list[_Entry] = []
    size = 0
    for entry in _after(entries, place):
        size += len(bytes(entry.body)) if isinstance(entry, EventHappened) else 0
        if len(items) == limit or (items and size > PAGE_BYTES):
            last = items[-1].at
            passed = sum(item.at == last for item in items)
            if place is not None and place.at == last:
                passed += place.passed
            return Page(items=items, next=str(PagePlace(last, passed)))
        items.append(entry)
    return Page(items=items, next=None)


def _after(entries: Iterable[_Entry], place: PagePlace | None) -> Iterator[_Entry]:
    left = 0 if place is None else place.passed
    for entry in entries:
        if left and place is not None and entry.at == place.at:
            left -= 1
        else:
            left = 0
            yield entry
