"""Rows of the journal back into typed events."""

from __future__ import annotations

from typing import Any, Final

from gateway.decoding import Decoder
from gateway.events import UNKNOWN, Event
from gateway.journal.append import moment

COLUMNS: Final = "seq, id, received_at, organisation, hook, conversation_id, customer_uid, readable, conflict, raw"


def restore(decoder: Decoder, row: tuple[Any, ...]) -> Event:
    """An event from a row of `COLUMNS`; what could not be read when it came is tried again."""
    _, event_id, received_at, organisation, hook, conversation_id, customer_uid, readable, conflict, raw = row
    try:
        decoded = decoder.decode(organisation, raw, None if hook == UNKNOWN else hook)
        hook, payload, readable = decoded.hook, decoded.payload, decoded.readable
    except ValueError:
        payload, readable = None, False
    return Event(
        id=event_id,
        received_at=moment(received_at),
        organisation=organisation,
        hook=hook,
        payload=payload,
        raw=raw,
        readable=bool(readable),
        conflict=bool(conflict),
        conversation_id=conversation_id,
        customer_uid=customer_uid,
    )
