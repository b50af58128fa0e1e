"""What happened to a customer or in a conversation: events and custom value requests, in the order of their times."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from heapq import merge
from itertools import chain, islice
from operator import attrgetter
from typing import Any, Final

import apsw
import msgspec

from gateway.journal.append import moment
from gateway.journal.interface import Filter
from gateway.journal.search import EventHappened, ValueRecord, ValueRecordFilter, ValuesAsked
from gateway.journal.sqlite.checksum import sound_events
from gateway.journal.sqlite.connection import rows
from gateway.journal.sqlite.finding import Finder
from gateway.journal.sqlite.queries import where
from gateway.json_text import one_line

AROUND: Final = timedelta(hours=1)
"""How long before the first event of a conversation and after its last one a request counts as made in it: a bot asks
before it sends the first message."""
PAGE: Final = 500
MANY: Final = 2000
"""Events from which a timeline is read page by page, without events of its conversations that name no customer."""
Records = Callable[[ValueRecordFilter], Iterator[ValueRecord]]


def timeline(
    connection: apsw.Connection, which: Filter, finder: Finder, records: Records, damaged: Callable[[int], None]
) -> Iterator[EventHappened | ValuesAsked]:
    """See `Search.timeline`."""
    every = msgspec.structs.replace(which, since=None, until=None)
    seqs = list(islice(chain.from_iterable(finder.pages([every], PAGE)), MANY))
    if len(seqs) == MANY:
        pages: Iterable[Sequence[int]] = finder.pages([which], PAGE)
        seqs += islice(chain.from_iterable(finder.pages([every], PAGE, newest=True)), 1)
    else:
        if which.customer is not None:
            seqs = sorted({*seqs, *_of_unnamed(connection, seqs, finder)})
        pages = _pages(seqs)
    if which.customer is not None:
        about = [ValueRecordFilter(organisation=which.organisation, customer_uid=which.customer)]
    else:
        about = _about_customers(connection, seqs)
    within = [_within(one, which) for one in about]
    asked = merge(*map(records, within), key=attrgetter("at"))
    return merge(_events(connection, pages, which, damaged), map(_asked, asked), key=attrgetter("at"))


def _of_unnamed(connection: apsw.Connection, seqs: Sequence[int], finder: Finder) -> list[int]:
    """The events without a customer, of those conversations of these events that have one customer only."""
    conversations = _distinct(connection, "organisation, conversation_id", seqs)
    found = finder.find([Filter(organisation=name, conversation=conversation) for name, conversation in conversations])
    named = _distinct(connection, "organisation, conversation_id, customer_uid", found)
    customers = Counter((organisation, conversation) for organisation, conversation, uid in named if uid is not None)
    unnamed = []
    for page in _pages(found):
        sql = "SELECT seq, organisation, conversation_id FROM events WHERE customer_uid IS NULL AND seq IN"
        found_here = rows(connection, f"{sql} ({_marks(page)})", page)
        unnamed += [seq for seq, organisation, conversation in found_here if customers[organisation, conversation] == 1]
    return unnamed


def _about_customers(connection: apsw.Connection, seqs: Sequence[int]) -> list[ValueRecordFilter]:
    """Selects the requests about the customers of a conversation, around the time of its events."""
    times = [time for (time,) in _distinct(connection, "received_at", seqs)]
    return [
        ValueRecordFilter(
            organisation=organisation,
            customer_uid=customer_uid,
            since=moment(min(times)) - AROUND,
            until=moment(max(times)) + AROUND,
        )
        for organisation, customer_uid in _distinct(connection, "organisation, customer_uid", seqs)
        if customer_uid is not None
    ]


def _within(about: ValueRecordFilter, which: Filter) -> ValueRecordFilter:
    since = max(filter(None, (about.since, which.since)), default=None)
    until = min(filter(None, (about.until, which.until)), default=None)
    return msgspec.structs.replace(about, since=since, until=until)


def _distinct(connection: apsw.Connection, columns: str, seqs: Sequence[int]) -> list[tuple[Any, ...]]:
    """The different values of these columns, of events at these positions; rows without a conversation left out."""
    found: dict[tuple[Any, ...], None] = {}
    for page in _pages(seqs):
        sql = f"SELECT DISTINCT {columns} FROM events WHERE conversation_id IS NOT NULL AND seq IN ({_marks(page)})"
        found.update(dict.fromkeys(map(tuple, rows(connection, sql, page))))
    return list(found)


def _events(
    connection: apsw.Connection, pages: Iterable[Sequence[int]], which: Filter, damaged: Callable[[int], None]
) -> Iterator[EventHappened]:
    condition, values = where(Filter(since=which.since, until=which.until))
    for page in pages:
        rest = f"events WHERE seq IN ({_marks(page)}) AND {condition} ORDER BY seq"
        for row in sound_events(connection, rest, (*page, *values), damaged):
            _, event_id, received_at, organisation, hook, conversation_id, customer_uid, readable, *_, raw, name = row
            yield EventHappened(
                at=moment(received_at),
                organisation=organisation,
                conversation_id=conversation_id,
                customer_uid=customer_uid,
                id=event_id,
                hook=hook,
                name=name,
                readable=bool(readable),
                body=msgspec.Raw(one_line(raw)),
            )


def _asked(record: ValueRecord) -> ValuesAsked:
    return ValuesAsked(
        at=record.at,
        organisation=record.organisation,
        customer_uid=record.customer_uid,
        status=record.status,
        fields=record.fields,
    )


def _pages(seqs: Sequence[int]) -> Iterator[Sequence[int]]:
    return (seqs[start : start + PAGE] for start in range(0, len(seqs), PAGE))


def _marks(page: Sequence[int]) -> str:
    return ",".join("?" * len(page))
