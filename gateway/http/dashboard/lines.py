"""Events as lines of a page, masked unless they are revealed."""

from __future__ import annotations

from datetime import datetime

import msgspec

from gateway.http.audit import hint
from gateway.journal.search import EventHappened, EventRow, ValuesAsked
from gateway.sentences import sentence
from gateway.unknown import public


class EventLine(msgspec.Struct, kw_only=True):
    """A row of Find. `plugins` are the names and states of its deliveries."""

    id: str
    at: datetime
    organisation: str
    conversation: str
    customer: str
    what: str
    state: str
    plugins: list[tuple[str, str]]


class TimelineLine(msgspec.Struct, kw_only=True):
    """A line of a timeline; `id` is that of an event, empty for a custom value request."""

    at: datetime
    id: str
    organisation: str
    conversation: str
    what: str


def event_line(row: EventRow, revealed: bool) -> EventLine:
    """An event as a row."""
    return EventLine(
        id=row.id,
        at=row.received_at,
        organisation=row.organisation,
        conversation=row.conversation_id or "",
        customer=shown_id(row.customer_uid, revealed),
        what=what_happened(row, revealed),
        state=row.state,
        plugins=list(row.deliveries.items()),
    )


def timeline_line(line: EventHappened | ValuesAsked, revealed: bool) -> TimelineLine:
    """What happened, as a line."""
    return TimelineLine(
        at=line.at,
        id=line.id if isinstance(line, EventHappened) else "",
        organisation=line.organisation,
        conversation=line.conversation_id or "",
        what=sentence(line, masked=not revealed),
    )


def what_happened(row: EventRow, revealed: bool) -> str:
    """An event in words."""
    happened = EventHappened(
        at=row.received_at,
        organisation=row.organisation,
        conversation_id=row.conversation_id,
        customer_uid=row.customer_uid,
        id=row.id,
        hook=row.hook,
        name=row.name,
        readable=row.readable,
        body=row.body,
    )
    return sentence(happened, masked=not revealed)


def shown_id(identifier: str | None, revealed: bool) -> str:
    """A customer UID, masked unless it is revealed."""
    return (identifier or "") if revealed else hint(identifier or "")


def shown_name(name: str | None, revealed: bool) -> str:
    """The name that an event came by."""
    return (name if revealed else public(name)) or ""
