"""What Webio sends, as types: one struct per hook, and `Event`, which contains them.

Names are Webio's in snake_case. A field that Webio documents is typed and required; `customer_uid` may always be
`None` (Webio sends an empty text). Hooks whose bodies are not documented have the common family of fields, all
optional. Whatever else a body holds is in `extra`, and the bytes as received are in `Event.raw`.
"""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from gateway.json_text import one_line, parse_object

INBOUND_MESSAGE: Final = "inbound-message"
MESSAGE_SEND: Final = "message-send"
DELIVERY_REPORT: Final = "delivery-report"
PAYMENT: Final = "payment"
SET_STATUS: Final = "set-status"
CONVERSATION_CLOSED: Final = "conversation-closed"
MOVE_TO_QUEUE: Final = "move-to-queue"
CONVERSATION_ASSIGNMENT: Final = "conversation-assignment"
UNKNOWN: Final = "unknown"
"""The hook of an event by a name that neither this version nor the config knows; its payload is None."""

_PHONE_NUMBER = re.compile(
    r"(?:(?:tel|callto|sms|mms|rcs|whatsapp|viber|signal):)?[ (]*\+?[0-9 ().\-/]*", re.ASCII | re.IGNORECASE
)
_FEWEST_DIGITS = 5
_ADDRESS_KEYS: Final = frozenset({"outbound_channel_address", "address_digits"})

# Webio's article "Message Outcomes"; other numbers are not documented.
OUTCOMES: Final = {
    "0": "delivered",
    "1": "invalid",
    "2": "unavailable",
    "3": "network error",
    "5": "expired",
    "6": "invalid message structure",
    "7": "invalid contact structure",
    "9": "overrun",
    "10": "blocklisted",
    "11": "profanity",
    "12": "rejected",
    "14": "unconfirmed",
}


class _Body(msgspec.Struct, frozen=True, kw_only=True, rename="camel", gc=False):
    """What all eight POST bodies share. `extra` holds every field that the struct does not name; non-integers
    in it are `Decimal`, so that amounts stay exact."""

    type: str | None = None
    customer_uid: str | None = msgspec.field(default=None, name="customerUID")
    extra: dict[str, Any] = {}


class _Message(_Body, frozen=True, kw_only=True, rename="camel", gc=False):
    conversation_id: str
    communication_action_id: str
    outbound_channel_address: str
    inbound_channel_address: str
    date_created: datetime


class InboundMessage(_Message, frozen=True, kw_only=True, rename="camel", gc=False):
    """A customer's message reached one of the organisation's channels."""

    body: str


class MessageSend(_Message, frozen=True, kw_only=True, rename="camel", gc=False):
    """A message went from pending to sent. `status_code` is Webio's text, as received."""

    body: str
    status_code: str


class DeliveryReport(_Message, frozen=True, kw_only=True, rename="camel", gc=False):
    """A message went from sent to an outcome. `status_code` is Webio's text, as received."""

    status_code: str

    @property
    def outcome(self) -> str | None:
        """The documented name of `status_code`, such as `"delivered"`, or None where Webio documents none."""
        return OUTCOMES.get(self.status_code)


class _Undocumented(_Body, frozen=True, kw_only=True, rename="camel", gc=False):
    conversation_id: str | None = None
    outbound_channel_address: str | None = None
    inbound_channel_address: str | None = None
    date_created: datetime | None = None


class Payment(_Undocumented, frozen=True, kw_only=True, rename="camel", gc=False):
    """A payment through WebioPay succeeded. Webio documents no body: amounts and references are in `extra`."""


class SetStatus(_Undocumented, frozen=True, kw_only=True, rename="camel", gc=False):
    """A status was assigned to a conversation."""


class ConversationClosed(_Undocumented, frozen=True, kw_only=True, rename="camel", gc=False):
    """A conversation was closed."""


class MoveToQueue(_Undocumented, frozen=True, kw_only=True, rename="camel", gc=False):
    """A conversation was moved to a queue."""


class ConversationAssignment(_Undocumented, frozen=True, kw_only=True, rename="camel", gc=False):
    """A conversation was assigned or unassigned."""


Payload = (
    InboundMessage
    | MessageSend
    | DeliveryReport
    | Payment
    | SetStatus
    | ConversationClosed
    | MoveToQueue
    | ConversationAssignment
)

PAYLOADS: Final[dict[str, type[Payload]]] = {
    INBOUND_MESSAGE: InboundMessage,
    MESSAGE_SEND: MessageSend,
    DELIVERY_REPORT: DeliveryReport,
    PAYMENT: Payment,
    SET_STATUS: SetStatus,
    CONVERSATION_CLOSED: ConversationClosed,
    MOVE_TO_QUEUE: MoveToQueue,
    CONVERSATION_ASSIGNMENT: ConversationAssignment,
}
HOOKS: Final = tuple(PAYLOADS)


class Event(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One event as the gateway keeps it and hands it to plugins.

    `id` is stable: a plugin that sees the same id again sees the same event (after a crash, a retry or a replay).
    `attempt` counts the tries of this delivery from 1, those that an outage failed included.
    `redelivered` is true when this plugin may have had the event before; false means that it did not. `replayed`
    is true when an operator asked for it again. `name` is given where `hook` is `"unknown"`: the `type` that the event
    came by, or `/` and the rest of its path; at most 64 characters. `epoch` grows each time that another gateway takes
    over the plugin's events: a system that refuses a lower epoch than it has seen refuses a gateway that was replaced
    without noticing it. It is 0 where the journal is a file.
    """

    id: str
    received_at: datetime
    organisation: str
    hook: str
    payload: Payload | None
    raw: bytes
    readable: bool = True
    conflict: bool = False
    conversation_id: str | None = None
    customer_uid: str | None = None
    name: str | None = None
    attempt: int = 1
    redelivered: bool = False
    replayed: bool = False
    epoch: int = 0

    def fields(self) -> dict[str, Any]:
        """The whole body as a dictionary with Webio's own names; non-integers are `Decimal`."""
        return parse_object(self.raw)

    def line(self) -> bytes:
        """The body's JSON text as received, brought onto one line."""
        return one_line(self.raw)

    def record(self) -> bytes:
        """The event as one line of JSON without a line end, as the bundled plugins write and send it: `{"id":
        "0193…", "received_at": "2026-11-22T15:54:24.123456Z", "organisation": …, "hook": …, "body": …}` without these
        spaces. The time is in UTC, and the body is as in `line`."""
        received = self.received_at.astimezone(UTC).isoformat(timespec="microseconds")
        head = {
            "id": self.id,
            "received_at": f"{received[:-6]}Z",
            "organisation": self.organisation,
            "hook": self.hook,
        }
        return b'%b,"body":%b}' % (msgspec.json.encode(head)[:-1], self.line())


QUESTION_KEYS: Final = ("customer_uid", "outbound_channel_address", "address_digits", "organisation")
"""The attributes of a `CustomValueRequest` that a look-up may use."""


def digits_of(address: str) -> str | None:
    """The digits of an address that is a phone number, in any notation; None for any other address."""
    if address.isdigit() and address.isascii():  # as most are, and quicker
        return address if len(address) >= _FEWEST_DIGITS else None
    if not _PHONE_NUMBER.fullmatch(address):
        return None
    digits = "".join(filter(str.isdigit, address))
    return digits if len(digits) >= _FEWEST_DIGITS else None


class CustomValueRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Webio's bot asks for values while a customer waits.

    `fields` are the names that this provider may answer; `fields_for` says which of them a look-up may answer.
    `customer_uid` is None in conversations that began inbound. `not_by_address` are the fields that the address alone
    must not answer; `fields_for` leaves them out where it has to. An answer after `expires`, on `time.monotonic()` in
    seconds, is too late.
    """

    organisation: str
    fields: tuple[str, ...]
    customer_uid: str | None = None
    outbound_channel_address: str | None = None
    not_by_address: frozenset[str] = frozenset()
    expires: float = float("inf")

    def fields_for(self, *keys: str) -> tuple[str, ...]:
        """Those of `fields` that may be answered by a look-up with these keys, all of them together. Keys are the
        attributes that the look-up uses: `"customer_uid"`, `"outbound_channel_address"`, `"address_digits"`,
        `"organisation"`; `ValueError` for any other.

        Empty where the request has no value for one of the keys. A look-up by the address without the customer UID
        may not answer every field, since the address may belong to another customer.
        """
        for key in keys:
            if key not in QUESTION_KEYS:
                raise ValueError(f"unknown key {key!r}; use {', '.join(QUESTION_KEYS)}")
            if getattr(self, key) is None:
                return ()
        if "customer_uid" in keys or _ADDRESS_KEYS.isdisjoint(keys):
            return self.fields
        return tuple(field for field in self.fields if field not in self.not_by_address)

    @property
    def time_left(self) -> float:
        """Seconds until the answer is too late; never negative."""
        return max(0.0, self.expires - time.monotonic())

    @property
    def address_digits(self) -> str | None:
        """The digits of an address that is a phone number, in any notation; None for any other address, such as an
        email address with digits in it."""
        address = self.outbound_channel_address
        return None if address is None else digits_of(address)
