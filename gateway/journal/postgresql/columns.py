"""What of an event goes into which column, and back."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Final, overload

from gateway.decoding import Decoder
from gateway.events import Event
from gateway.journal.append import Append
from gateway.json_text import parse_object
from gateway.selector import address_key, body_address

BUCKETS: Final = 64
"""Conversations are spread over so many; a shard of a plugin has whole buckets."""
EVENT: Final = "seq, id, received_at, organisation, hook, conversation_id, customer_uid, readable, conflict, raw, name"
"""The columns that `restore` needs."""
REPLACED: Final = "\ufffd"
"""In place of what a column cannot hold."""
_PREFIX: Final = 48


@overload
def storable(text: str) -> str: ...
@overload
def storable(text: None) -> None: ...
def storable(text: str | None) -> str | None:
    """A text as PostgreSQL can hold it, with U+FFFD for what it cannot hold: NUL and lone surrogates."""
    if text is None or (text.isascii() and "\0" not in text):
        return text
    return text.replace("\0", REPLACED).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def bucket_of(organisation: str, conversation: str | None, event_id: str) -> int:
    """The bucket of a conversation, the same in every version; an event without one is spread by its id."""
    name = event_id if conversation is None else f"{organisation}/{conversation}"
    return hashlib.blake2b(name.encode(errors="surrogatepass"), digest_size=1).digest()[0] % BUCKETS


def natural_key(text: str) -> bytes:
    """A natural key of bounded length. Its beginning stays: such keys grow, and an index grows best at its end."""
    whole = text.encode(errors="surrogatepass")
    if len(whole) <= _PREFIX:
        return whole
    return whole[:_PREFIX] + hashlib.blake2b(whole, digest_size=16).digest()


def address_of(append: Append) -> str | None:
    """The key of the customer's address in a body, as `address_key` gives it, or None."""
    raw = append.event.raw
    known = getattr(append.event.payload, "outbound_channel_address", None)
    if known and b'"%b"' % known.encode(errors="replace") in raw:  # a text in the body, which need not be read again
        return storable(address_key(known) or None)
    return address_in(raw)


def address_in(raw: bytes) -> str | None:
    """The same, of a body that is not decoded."""
    if b"outboundChannelAddress" not in raw and b"\\u" not in raw:
        return None
    try:
        return storable(body_address(parse_object(raw)))
    except ValueError:
        return None


def values_of(append: Append) -> tuple[Any, ...]:
    """An event's values, in the order of the parameters of `gateway_append`."""
    event = append.event
    conversation, key = event.conversation_id, append.natural_key
    return (
        event.id,
        append.micros,
        event.organisation,
        event.hook,
        storable(conversation),
        storable(event.customer_uid),
        event.readable,
        append.created,
        append.digest,
        None if key is None else natural_key(key),
        storable(event.name),
        address_of(append),
        bucket_of(event.organisation, conversation, event.id),
        event.raw,
    )


def restore(decoder: Decoder, row: Mapping[str, Any] | Sequence[Any]) -> Event:
    """An event from a row of `EVENT`; what could not be read when it came is tried again."""
    values = tuple(row.values()) if isinstance(row, Mapping) else tuple(row)
    _, event_id, received_at, organisation, hook, conversation_id, customer_uid, _, conflict, raw, name = values
    decoded = decoder.decode_kept(organisation, raw, hook, name)
    return Event(
        id=str(event_id),
        received_at=received_at,
        organisation=organisation,
        hook=decoded.hook,
        payload=decoded.payload,
        raw=raw,
        readable=decoded.readable,
        conflict=conflict,
        conversation_id=_exact(conversation_id, decoded.conversation_id),
        customer_uid=_exact(customer_uid, decoded.customer_uid),
        name=decoded.name,
    )


def _exact(kept: str | None, read: str | None) -> str | None:
    """The text of the body where the column could not hold it as it is."""
    return read if kept is not None and REPLACED in kept and read is not None else kept
