"""The question of a custom value request: which fields, of which customer. And how to read it from a query string."""

from __future__ import annotations

import re
from operator import itemgetter
from typing import Final, NamedTuple
from urllib.parse import unquote_to_bytes

MAX_PARAMS: Final = 64  # in one request
MAX_NAME: Final = 128  # characters of a field's name
MAX_KEY: Final = 256  # characters of a customer UID or an address
MAX_QUERY: Final = 32 * 1024  # bytes of the query string

_PARAM = re.compile(rb"param([0-9]{0,9})")
_NUMBERS = {f"param{number}".encode(): number for number in range(1, MAX_PARAMS + 1)}
_by_number = itemgetter(0)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_UNESCAPED_PLUS = re.compile(r" [0-9][0-9 ()./-]*")


class Malformed(Exception):
    """The query string cannot be read. The message is a sentence without any text of the query."""


class Question(NamedTuple):
    """Which fields, of which customer, for which organisation. `fields` are each there once, in the order asked for.
    `customer_uid` and `address` are None where the request has none."""

    organisation: str
    customer_uid: str | None
    address: str | None
    fields: tuple[str, ...]

    def about(self, fields: tuple[str, ...]) -> Question:
        """The question of the same customer about these fields."""
        return Question(self.organisation, self.customer_uid, self.address, fields)


def parse_query(organisation: str, query: bytes) -> Question:
    """Read a query string; `Malformed` where it is not clear what it asks."""
    if len(query) > MAX_QUERY:
        raise Malformed(f"the query is longer than {MAX_QUERY} bytes")
    escaped = b"%" in query or b"+" in query
    params: list[tuple[int, str]] = []
    customer_uid = address = None
    for pair in query.split(b"&"):
        key, _, value = pair.partition(b"=")
        if escaped:
            key, value = _unescaped(key), _unescaped(value)
        key = key.lower()
        if key == b"customeruid":
            customer_uid = _same(customer_uid, _identity(value, "customerUID"), "customerUID")
        elif key == b"outboundchanneladdress":
            found = _identity(value, "outboundChannelAddress")
            if found is not None and _UNESCAPED_PLUS.fullmatch(found):
                found = f"+{found[1:]}"
            address = _same(address, found, "outboundChannelAddress")
        elif value and (number := _NUMBERS[key] if key in _NUMBERS else _number(key)) >= 0:
            name = _text(value, "a param")
            if len(name) > MAX_NAME:
                raise Malformed(f"a param is longer than {MAX_NAME} characters")
            params.append((number, name))
            if len(params) > MAX_PARAMS:
                raise Malformed(f"more than {MAX_PARAMS} params")
    if len(params) > 1:
        params.sort(key=_by_number)
    return Question(organisation, customer_uid, address, tuple(dict.fromkeys([name for _, name in params])))


def _unescaped(raw: bytes) -> bytes:
    return unquote_to_bytes(raw.replace(b"+", b" "))


def _number(key: bytes) -> int:
    """The number of a `paramN`; -1 for any other key."""
    match = _PARAM.fullmatch(key)
    return -1 if match is None else int(match[1] or 0)


def _text(value: bytes, what: str) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise Malformed(f"{what} is not UTF-8") from None


def _identity(raw: bytes, what: str) -> str | None:
    """A customer UID or an address; None for an empty one and for `null`."""
    value = _text(raw, what)
    bare = value.strip()
    if not bare or bare.lower() == "null":
        return None
    if len(value) > MAX_KEY:
        raise Malformed(f"{what} is longer than {MAX_KEY} characters")
    if not value.isprintable() and _CONTROL.search(value):
        raise Malformed(f"{what} contains a control character")
    return value


def _same(known: str | None, found: str | None, what: str) -> str | None:
    if known is None or found is None or known == found:
        return found if known is None else known
    raise Malformed(f"more than one {what}")
