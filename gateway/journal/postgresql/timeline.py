"""What happened to a customer or in a conversation: events and custom value requests, in the order of their times."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from heapq import merge
from itertools import chain, islice
from operator import attrgetter
from typing import Any, Final

import msgspec

from gateway.journal.interface import Filter
from gateway.journal.postgresql.columns import EVENT
from gateway.journal.postgresql.finding import EventFinder
from gateway.journal.postgresql.queries import where
from gateway.journal.postgresql.reading import Reading
from gateway.journal.search import EventHappened, ValueRecord, ValueRecordFilter, ValuesAsked
from gateway.json_text import one_line

AROUND: Final = timedelta(hours=1)
"""How long before the first event of a conversation and after its last one a request counts as made in it: a bot asks
before it sends the first message."""
PAGE: Final = 500
MANY: Final = 2000
"""Events from which a timeline is read page by page, without events of its conversations that name no customer."""
Records = Callable[[ValueRecordFilter], Iterator[ValueRecord]]
_OF_CONVERSATIONS: Final = (
    "SELECT e.seq, e.organisation, e.conversation_id, e.customer_uid"
    " FROM unnest($1::text[], $2::text[]) AS asked (organisation, conversation_id)"
    " CROSS JOIN LATERAL (SELECT seq, organisation, conversation_id, customer_uid FROM events"
    " WHERE left(conversation_id, 256) = left(asked.conversation_id, 256) AND conversation_id = asked.conversation_id"
    " AND organisation = asked.organisation ORDER BY seq LIMIT $3) e"
)


def timeline(
    reading: Reading, which: Filter, finder: EventFinder, records: Records
) -> Iterator[EventHappened | ValuesAsked]:
    """See `Search.timeline`."""
    every = msgspec.structs.replace(which, since=None, until=None)
    seqs = list(islice(chain.from_iterable(finder.pages(every, PAGE)), MANY))
    if len(seqs) == MANY:
        pages: Iterable[Sequence[int]] = finder.pages(which, PAGE)
        seqs += islice(chain.from_iterable(finder.pages(every, PAGE, newest=True)), 1)
    else:
        if which.customer is not None:
            seqs = sorted({*seqs, *_of_unnamed(reading, seqs)})
        pages = _pages(seqs)
    if which.customer is not None:
        about = [ValueRecordFilter(organisation=which.organisation, customer_uid=which.customer)]
    else:
        about = _about_customers(reading, seqs)
    within = [_within(one, which) for one in about]
    asked = merge(*map(records, within), key=attrgetter("at"))
    return merge(_events(reading, pages, which), map(_asked, asked), key=attrgetter("at"))


def _of_unnamed(reading: Reading, seqs: Sequence[int]) -> list[int]:
    """The events without a customer, of those conversations of these events that have one customer only."""
    conversations = _distinct(reading, "organisation, conversation_id", seqs)
    if not conversations:
        return []
    found = reading.rows(_OF_CONVERSATIONS, *map(list, zip(*conversations, strict=True)), MANY)
    named = {tuple(row[1:]) for row in found if row[3] is not None}
    customers = Counter((organisation, conversation) for organisation, conversation, _ in named)
    return [
        seq
        for seq, organisation, conversation, uid in found
        if uid is None and customers[organisation, conversation] == 1
    ]


def _about_customers(reading: Reading, seqs: Sequence[int]) -> list[ValueRecordFilter]:
    """Selects the requests about the customers of a conversation, around the time of its events."""
    times = [time for (time,) in _distinct(reading, "received_at", seqs)]
    return [
        ValueRecordFilter(
            organisation=organisation, customer_uid=uid, since=min(times) - AROUND, until=max(times) + AROUND
        )
        for organisation, uid in _distinct(reading, "organisation, customer_uid", seqs)
        if uid is not None
    ]


def _within(about: ValueRecordFilter, which: Filter) -> ValueRecordFilter:
    since = max(filter(None, (about.since, which.since)), default=None)
    until = min(filter(None, (about.until, which.until)), default=None)
    return msgspec.structs.replace(about, since=since, until=until)


def _distinct(reading: Reading, columns: str, seqs: Sequence[int]) -> list[tuple[Any, ...]]:
    """The different values of these columns, of events at these positions; rows without a conversation left out."""
    sql = f"SELECT DISTINCT {columns} FROM events WHERE conversation_id IS NOT NULL AND seq = ANY($1)"
    return [tuple(row) for row in reading.rows(sql, seqs)]


def _events(reading: Reading, pages: Iterable[Sequence[int]], which: Filter) -> Iterator[EventHappened]:
    condition, values = where(Filter(since=which.since, until=which.until), 2)
    for page in pages:
        for row in reading.rows(
            f"SELECT {EVENT} FROM events WHERE seq = ANY($1) AND {condition} ORDER BY seq", page, *values
        ):
            yield EventHappened(
                at=row["received_at"],
                organisation=row["organisation"],
                conversation_id=row["conversation_id"],
                customer_uid=row["customer_uid"],
                id=str(row["id"]),
                hook=row["hook"],
                name=row["name"],
                readable=row["readable"],
                body=msgspec.Raw(one_line(row["raw"])),
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
