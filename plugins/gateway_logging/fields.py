"""The fields of a line: where each comes from, and how it is masked."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from operator import attrgetter
from typing import Any, Final

import msgspec

from gateway import DeliveryReport, Event
from gateway_logging.masking import mask_address, mask_digits, mask_identifier, mask_message, mask_phone_as_id

Reader = Callable[[Event], str | None]
"""Gives an event's field as text for a line, or None where the line leaves it out."""

EXTRA: Final = "extra."
_LONGEST = 1000

# Flags are in a line only where they have another value than usual.
_USUAL = {"readable": True, "conflict": False, "redelivered": False, "replayed": False}
_ATTRIBUTES = ("id", "organisation", "hook", "conversation_id", "customer_uid")
_IN_BODY = {
    "type": "type",
    "communication_action_id": "communicationActionId",
    "outbound_channel_address": "outboundChannelAddress",
    "inbound_channel_address": "inboundChannelAddress",
    "body": "body",
    "date_created": "dateCreated",
    "status_code": "statusCode",
}
_MASKS: dict[str, Callable[[str], str]] = {
    "conversation_id": mask_phone_as_id,
    "communication_action_id": mask_phone_as_id,
    "customer_uid": mask_identifier,
    "outbound_channel_address": mask_address,
    "inbound_channel_address": mask_address,
    "body": mask_message,
    "type": mask_digits,
    "status_code": mask_digits,
}

FIELDS: Final = ("received_at", *_ATTRIBUTES, *_USUAL, "attempt", "size", *_IN_BODY, "outcome")
"""The names of all fields except `extra.NAME`, which is any other field of a body, by Webio's name."""


def reader(name: str, shown: bool, encode: Callable[[str], str]) -> Reader:
    """The reader of a field, masked unless `shown`; `encode` encodes its text for a line."""
    if name in _USUAL:
        return _flag(attrgetter(name), _USUAL[name])
    if name == "received_at":
        return lambda event: encode(_utc(event.received_at))
    if name == "attempt":
        return lambda event: str(event.attempt)
    if name == "size":
        return lambda event: str(len(event.raw))
    if name == "outcome":
        return lambda event: _outcome(event, encode)
    if name in _ATTRIBUTES:
        return _masked(attrgetter(name), None if shown else _MASKS.get(name), encode)
    if name in _IN_BODY:
        typed = _masked(_from_payload(name), None if shown else _MASKS.get(name), encode)
        untyped = _masked(_from_body(_IN_BODY[name]), None if shown else _MASKS.get(name, mask_digits), encode)
        return lambda event: untyped(event) if event.payload is None else typed(event)
    return _masked(_from_extra(name.removeprefix(EXTRA)), None if shown else mask_digits, encode)


def _flag(get: Callable[[Event], bool], usual: bool) -> Reader:
    unusual = "false" if usual else "true"
    return lambda event: None if get(event) is usual else unusual


def _masked(get: Callable[[Event], Any], mask: Callable[[str], str] | None, encode: Callable[[str], str]) -> Reader:
    def read(event: Event) -> str | None:
        value = get(event)
        if value is None:
            return None
        text = value if type(value) is str else _text(value)
        if mask is mask_message:
            return encode(mask_message(text))
        if len(text) > _LONGEST:
            text = text[:_LONGEST] + "…"
        return encode(text if mask is None else mask(text))

    return read


def _from_payload(name: str) -> Callable[[Event], Any]:
    return lambda event: getattr(event.payload, name, None)


def _from_body(name: str) -> Callable[[Event], Any]:
    return lambda event: event.fields().get(name)


def _from_extra(name: str) -> Callable[[Event], Any]:
    return lambda event: (event.fields() if event.payload is None else event.payload.extra).get(name)


def _outcome(event: Event, encode: Callable[[str], str]) -> str | None:
    outcome = event.payload.outcome if type(event.payload) is DeliveryReport else None
    return None if outcome is None else encode(outcome)


def _text(value: Any) -> str:
    if type(value) is datetime:
        return value.isoformat(timespec="milliseconds")
    if isinstance(value, dict | list | bool):
        return msgspec.json.encode(value).decode()
    return str(value)


def _utc(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds")[:-6] + "Z"
