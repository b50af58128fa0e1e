"""What is to be forgotten, and whether a body is about it."""

from __future__ import annotations

from typing import Any

import msgspec

from gateway.events import digits_of
from gateway.json_text import parse_object


def address_key(address: str) -> str:
    """What two notations of one address have in common: the digits of a phone number, as `address_digits` of a custom
    value request gives them; any other address without regard to case and surrounding spaces."""
    return digits_of(address) or address.strip().casefold()


def body_address(body: dict[str, Any]) -> str | None:
    """The key of the customer's address in a decoded body, or None where it has none."""
    address = body.get("outboundChannelAddress")
    if type(address) is int:
        address = str(address)
    return (address_key(address) or None) if type(address) is str else None


class Selector(msgspec.Struct, frozen=True, kw_only=True):
    """The argument of `forget`: exactly one of `customer_uid`, `address` and `conversation_id` is given. `organisation`
    is None for every organisation."""

    organisation: str | None = None
    customer_uid: str | None = None
    address: str | None = None
    conversation_id: str | None = None

    def matches(self, organisation: str, raw: bytes) -> bool:
        """Whether the body of an event, as received or on one line, is of what is to be forgotten: it names the
        customer, the conversation, or the address in any notation. False for a body that is not a JSON object."""
        if self.organisation not in (None, organisation):
            return False
        try:
            body = parse_object(raw)
        except ValueError:
            return False
        if self.address is not None:
            key = address_key(self.address)
            return bool(key) and body_address(body) == key
        if self.customer_uid is not None:
            return _text(body, "customerUID") == self.customer_uid
        return self.conversation_id is not None and _text(body, "conversationId") == self.conversation_id


def _text(body: dict[str, Any], name: str) -> str | None:
    """An identifier, which may be a number where Webio documents a text."""
    value = body.get(name)
    return value if type(value) is str else None if value is None or type(value) is bool else str(value)
